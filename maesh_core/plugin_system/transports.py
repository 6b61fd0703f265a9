"""The interfaces of transports: how a server on another node is reached, and which connections are encrypted.

A transport has two halves. The controller's half decides which nodes take part and which mode a service has; the
proxy's half chooses a path for each connection to a server. The core has an engine for multiplexed TLS connections
between nodes (`proxy/tunnel/`), which a transport configures with certificates and rules; a transport may also use
something else. Values and interfaces only.
"""

import socket
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec

from maesh_core.model.messages import TransportReport as TransportReport
from maesh_core.model.metrics import MetricFamily
from maesh_core.model.names import NameAddresses as NameAddresses
from maesh_core.model.topology import PodNode, ServiceNode
from maesh_core.model.transport import OFF as OFF
from maesh_core.model.transport import PERMISSIVE as PERMISSIVE
from maesh_core.model.transport import STRICT as STRICT
from maesh_core.model.transport import ClientEntry as ClientEntry
from maesh_core.process.tls_credentials import TlsCredentials

if TYPE_CHECKING:  # importing ssl takes 5 MB in processes that use no TLS
    import ssl

# --- values ----------------------------------------------------------------------------------------------------------


class RemoteServer(NamedTuple):
    """A server that a connection is opened to. `node` is the name of its node; empty if it is not known."""

    address: str
    port: int
    node: str


class Delivery(msgspec.Struct, frozen=True):
    """What the sender asks of the receiving node: a connection to one of its pods.

    `service` is the key of the service port, that of the leaf for a split. `client` is the client pod's address; empty
    if no guard needs it, or if no pod of the node that sends is known to have it. `protocol` is `http` or `tcp`.
    """

    address: str
    port: int
    service: str
    client: str = ""
    protocol: str = "http"


class Refusal(msgspec.Struct, frozen=True):
    """Why a receiving node does not open a connection.

    `status` is 403 (denied, not retried), 404 (the server is not a pod of this node), 502 or 504 (the pod refused or
    did not accept in time), or 503 (this node cannot at the moment).
    """

    status: int
    reason: str


class ByRequest(msgspec.Struct, frozen=True):
    """A verdict that allows a connection whose HTTP requests must be judged one by one, by the receiving node."""


DeliveryVerdict = Refusal | ByRequest | None
"""What a receiving node decides about a delivery; None allows it."""


class OpenFailure(NamedTuple):
    """Why a path could not be opened. `status` is that of a Refusal, or 0 if there was no connection to the node.

    `is_servers_fault`: the server is set aside, as after a failed connect; otherwise only the path is.
    """

    reason: str
    status: int
    is_servers_fault: bool


class Peer(NamedTuple):
    """A node to open connections to. `identity` is what its certificate must say; `addresses` are tried in order.

    `revoked` are serial numbers of its certificates that are refused, in upper-case hexadecimal.
    """

    node: str
    addresses: tuple[str, ...]
    port: int
    identity: str
    revoked: tuple[str, ...] = ()


class MeshNode(msgspec.Struct, frozen=True):
    """A node of the cluster, as the controller sees it: the mesh's proxy pods on it, the newest ready one first."""

    name: str
    proxies: tuple[PodNode, ...] = ()


# --- the engine ------------------------------------------------------------------------------------------------------


class OutgoingProtocol(Protocol):
    """The sender's end of a path: an asyncio.Protocol that is also told why there is no connection.

    The transport that `connection_made` gets has the methods of asyncio.Transport. Exactly one of `connection_made` and
    `open_failed` is called, unless the opening is cancelled.
    """

    def connection_made(self, transport: Any) -> None:
        """The server's node has connected to the pod."""

    def open_failed(self, failure: OpenFailure) -> None:
        """There is no connection."""

    def data_received(self, data: bytes) -> None:
        """Bytes of the server."""

    def eof_received(self) -> bool | None:
        """The server has closed its side."""

    def connection_lost(self, error: Exception | None) -> None:
        """The connection has ended; `error` is set if it was reset."""

    def pause_writing(self) -> None:
        """Too much is buffered."""

    def resume_writing(self) -> None:
        """There is room again."""


class ReplaceableProtocol(OutgoingProtocol, Protocol):
    """A protocol whose `path_retired` is called when its path will be replaced."""

    def path_retired(self) -> None:
        """Send no further request on this connection, and close it when it is idle."""


class Opening(Protocol):
    """A path that is being opened."""

    @property
    def has_connection(self) -> bool:
        """Whether there is a connection to the node, so that only the answer about the server is missing."""

    def cancel(self) -> None:
        """Stop it; nothing is called afterwards."""


class TunnelRules(Protocol):
    """The decisions of a transport about tunnels that other nodes open to this one."""

    def find_identity(self, certificate: Mapping[str, Any], address: str) -> str | None:
        """Return the name of the node that a verified certificate belongs to; None closes the connection.

        Called once per connection, after the handshake. `certificate` is the result of `SSLObject.getpeercert()`, and
        valid at this moment; `address` is that of the connection's other end.
        """

    async def judge(self, node: str, delivery: Delivery) -> DeliveryVerdict:
        """Decide whether a node may open this connection; None allows it. Called once per stream.

        Return what `Node.judge_delivery` returns, unless the transport itself refuses. May wait, for instance for a
        configuration that is under way. If it raises, the answer is 503.
        """

    def judge_again(self, node: str, delivery: Delivery) -> DeliveryVerdict:
        """Decide about a connection that is open, after a change of the configuration. Must not wait.

        Return what `Node.judge_delivery_again` returns, unless the transport itself refuses. 403 ends the connection at
        once; with another refusal, or if it raises, it ends after a while.
        """


class Tunnels(Protocol):
    """The engine's connections to and from other nodes: `Node.build_tunnels`."""

    def use(self, client: "ssl.SSLContext", server: "ssl.SSLContext", *, trusts_less: bool = False) -> None:
        """Use these for new handshakes. Older connections are replaced, and end when their streams have ended.

        `trusts_less`: an authority is not trusted any more. Then they end after 5 minutes at the latest.
        """

    def open(self, peer: Peer, delivery: Delivery, protocol: OutgoingProtocol) -> Opening:
        """Open a stream to a server on another node, over a connection that exists or a new one."""

    def drop(self, node: str) -> None:
        """Reset the connections to and from a node that is gone or revoked."""

    def collect_metrics(self) -> Sequence[MetricFamily]:
        """Return the engine's metrics."""

    async def open_listener(self, sock: socket.socket, entrypoint: int) -> Any:
        """Accept connections of other nodes from a listening socket, which the engine then owns; see `Listener`."""

    def start_draining(self) -> None:
        """Let other nodes open their streams elsewhere; those that are open continue."""

    def is_drained(self) -> bool:
        """Whether no other node has a connection to this one."""

    def count_under_way(self) -> int:
        """Count the connections of other nodes."""

    def abort(self) -> None:
        """Reset every connection."""


# --- the proxy's half ------------------------------------------------------------------------------------------------


class Path(Protocol):
    """How a server on another node is reached.

    If a service has guards, its connections carry only the traffic of the client and service in their delivery.
    """

    def open(self, delivery: Delivery, protocol: OutgoingProtocol) -> Opening:
        """Open a connection to the server."""


class PathRefusedError(Exception):
    """There may be no connection to this server.

    The text is the reason of the 503, after "encryption is required: ", such as "the server's node a has no tunnel".
    """


class Transport(Protocol):
    """The proxy's half of a transport, in each worker. At most one transport may be enabled."""

    name: str
    """The plugin's name. A proxy rejects a configuration that a controller made without this plugin."""
    node_type: type[Any]
    """The struct in which the controller's half describes a node."""

    def apply_nodes(self, nodes: Mapping[str, Any], clients: Mapping[str, ClientEntry]) -> None:
        """Use these nodes, by name, and clients, by address; called before tables of the same update are applied."""

    def find_path(self, server: RemoteServer, mode: str) -> Path | None:
        """Choose how a server is reached: None is a connection in clear. Raises PathRefusedError.

        Called when a connection is opened, not for each request.
        """

    def receive(self, payload: bytes) -> None:
        """Use what the transport's service in the node's parent has handed over, such as a new certificate."""


class ListeningTransport(Transport, Protocol):
    """A transport to which other nodes connect. `Tunnels` has the methods that it needs."""

    port: int
    """The TCP port, which is open from the first configuration on; the entrypoint has the transport's name."""

    async def open_listener(self, sock: socket.socket, entrypoint: int) -> Any:
        """Accept connections from a listening socket, which the transport then owns; see `Listener`."""

    def start_draining(self) -> None:
        """Let other nodes connect elsewhere; what is under way continues."""

    def is_drained(self) -> bool:
        """Whether no other node has a connection to this one."""

    def count_under_way(self) -> int:
        """Count the connections of other nodes."""

    def abort(self) -> None:
        """Reset every connection."""

    def collect_metrics(self) -> Sequence[MetricFamily]:
        """Return the metrics; called at each scrape."""


class ReviewingTransport(ListeningTransport, Protocol):
    """A transport with an engine of its own, which ends connections of other nodes that are not allowed any more."""

    def review(self) -> None:
        """Judge open connections again, by `Node.judge_delivery_again`; called after each change of the configuration.

        An exception is logged. The engine of `Node.build_tunnels` does this by itself.
        """


# --- the node's parent -----------------------------------------------------------------------------------------------


class ParentNode(Protocol):
    """The parent process of a node, as services that run in it see it."""

    @property
    def settings(self) -> Any:
        """The proxy's settings."""

    @property
    def name(self) -> str:
        """The node's name: `--node`."""

    def hand(self, name: str, payload: bytes) -> None:
        """Pass the newest payload to the transport of this name in every worker, also in those that start later."""

    def publish_addresses(self, table: Mapping[str, NameAddresses]) -> None:
        """Let all workers use these addresses of names, and no others, until the next call."""

    def protect(self, is_controller: Callable[[Mapping[str, Any]], bool]) -> None:
        """Protect the admin port: only who shows the certificate of a controller may read it.

        `is_controller` gets a verified certificate as `SSLObject.getpeercert` describes it, with each request. Has no
        effect on loopback, and with `--admin-clear`. Call it when the services are created.
        """

    def use_certificate(self, credentials: TlsCredentials) -> None:
        """Show this certificate at a protected admin port, and to the controller if the endpoint is `https`."""

    def report(self, families: Sequence[MetricFamily], state: Mapping[str, str]) -> None:
        """Show these metrics in `/metrics`, and this state in `/status`, until the next call."""

    def tell_controller(self, facts: Mapping[str, str]) -> None:
        """Report these facts, by name, to the controller: now, and with each pull until the next call.

        At most 8, of at most 96 printable ASCII characters each; names match `[a-z][a-z0-9-]{0,31}`. Raises ValueError.
        The controller's half reads them as `ReportingRules`.
        """


class NodeService(Protocol):
    """A task of the node's parent, such as one that renews a certificate. Must not import heavy libraries.

    It may have an attribute `is_starting`. While this is true, the proxy is not ready, but no longer than for 60 s
    after its first configuration. So a rolling update does not replace a proxy by one that cannot encrypt yet.
    """

    name: str

    async def run(self) -> None:
        """Run until cancelled. If it raises, the failure is logged, and it is started again with back-off."""


class InformedService(NodeService, Protocol):
    """A task that receives what the controller's half of its transport shares with all nodes: `ReportingRules`."""

    def receive_shared(self, value: bytes) -> None:
        """Use a new value, as JSON; called when a configuration has changed it. An exception is logged."""


# --- the controller's half -------------------------------------------------------------------------------------------


class TransportRules(Protocol):
    """The controller's half of a transport. Pure."""

    name: str
    annotations: tuple[str, ...]
    """The annotations of services that it reads, without prefix."""

    def build_mode(self, annotations: Mapping[str, str], service: ServiceNode) -> str:
        """Choose a service's mode from its annotations, or from those of its namespace.

        Raises ConfigurationError, or ValueError with a reason, which closes the service.
        """

    def describe_node(self, node: MeshNode) -> msgspec.Struct | None:
        """Describe a node for all proxies; None if it does not take part."""


class ReportingRules(TransportRules, Protocol):
    """Rules that send the parents of all nodes something, and read what they report."""

    def describe_mesh(self) -> msgspec.Struct | None:
        """Return what all nodes should know, which their `InformedService` receives; None for nothing."""

    def accept_facts(self, facts: Mapping[str, str]) -> Mapping[str, str]:
        """Return the valid facts of a proxy; anything may be in them. Raises ValueError to refuse them all.

        Called when a proxy reports other facts than before. A refusal does not affect the proxy's pull.
        """

    def describe_facts(self, facts: Mapping[str, str]) -> TransportReport:
        """Describe the state of a proxy by its accepted facts, at this moment; `facts` is empty without any."""
