"""The settings of each command, each declared once.

A field defines a flag (`--api-port`), an environment variable (`MAESH_API_PORT`), an entry of the settings file
(`api-port`), and a line of the help text and the documentation. maesh_core/settings/loading.py reads and merges them.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from msgspec import Meta

from maesh_core.values.parsing import Duration, NetworkList

Port = Annotated[int, Meta(ge=0, le=65535)]
"""0 lets the kernel choose a port."""
FirstPort = Annotated[int, Meta(ge=1, le=65535)]
"""The first port of a range. Not 0, because the configuration contains the numbers of the ports."""
Limit = Annotated[int, Meta(ge=1)]
LimitOrNone = Annotated[int, Meta(ge=0)]

LogLevel = Literal["trace", "debug", "info", "warn", "warning", "error", "fatal", "panic"]


@dataclass(frozen=True, kw_only=True)
class InstalledPlugin:
    """The package metadata of one plugin. `path` is the value of its entry point, `package.module:attribute`.

    `parent` is the same of its half in the parent of a proxy's workers, `commands` that of its commands, and
    `converter` that of its converter; empty if there are none.
    """

    name: str
    distribution: str
    version: str
    summary: str
    is_default: bool
    path: str
    parent: str = ""
    commands: str = ""
    converter: str = ""

    @property
    def label(self) -> str:
        """The plugin and its distribution, for errors."""
        return f"plugin '{self.name}' ({self.distribution} {self.version})"


@dataclass(frozen=True, kw_only=True)
class CommonSettings:
    """The settings of all commands that load plugins.

    `plugins` are the installed plugins that are enabled. `plugin_settings` are their raw settings, by plugin name and
    key. Both come from flags such as `--acl` and `--set NAME.KEY=VALUE`, and not from fields of their own. `origins`
    has the origin of each setting for error texts, by `NAME.KEY`.
    """

    log_level: Annotated[LogLevel, Meta(description="Lowest level of log lines to write.")] = "warning"
    log_format: Annotated[
        Literal["common", "json"],
        Meta(description="Format of log lines: text (common) or one JSON object per line (json)."),
    ] = "common"
    plugins: tuple[InstalledPlugin, ...] = ()
    plugin_settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ManifestSettings(CommonSettings):
    """What determines the services of a mesh: shared by all commands that read manifests."""

    namespace: Annotated[str, Meta(description="Namespace of the mesh itself.")] = "maesh"
    default_mode: Annotated[str, Meta(description="Traffic type of services without the annotation.")] = "http"
    ignore_namespaces: Annotated[
        tuple[str, ...], Meta(description="Namespaces to ignore, even if they are watched.")
    ] = ()
    watch_namespaces: Annotated[tuple[str, ...], Meta(description="The only namespaces to watch; default: all.")] = ()
    recursive: Annotated[bool, Meta(description="Read manifests in subfolders too.")] = False


OWN_HTTP_PORT = 16000
"""Default of `own_http_port`, between the default ranges of other entrypoints and the ports that systems choose."""


@dataclass(frozen=True, kw_only=True)
class ClientHeaderSettings(CommonSettings):
    """What controller and proxies must agree on."""

    client_header: Annotated[
        bool,
        Meta(
            description="Send servers the service account of the client, as namespace/name, in the header"
            " X-Maesh-Client, and remove what clients send there; needed in controllers and proxies."
        ),
    ] = False


@dataclass(frozen=True, kw_only=True)
class MeshSettings(ClientHeaderSettings, ManifestSettings):
    """Settings that determine the configuration: shared by `controller` and `up`."""

    http_port: Annotated[FirstPort, Meta(description="First HTTP entrypoint.")] = 5000
    tcp_port: Annotated[FirstPort, Meta(description="First TCP entrypoint.")] = 10000
    limit_http_port: Annotated[Limit, Meta(description="Maximum number of HTTP entrypoints.")] = 100
    limit_tcp_port: Annotated[Limit, Meta(description="Maximum number of TCP entrypoints.")] = 1000
    default_entrypoint: Annotated[
        Literal["shared", "own"],
        Meta(
            description="Whether HTTP ports without the annotation entrypoint share their entrypoints with other"
            " services, or have own ones."
        ),
    ] = "shared"
    own_http_port: Annotated[
        FirstPort, Meta(description="First HTTP entrypoint that belongs to one port of a service.")
    ] = OWN_HTTP_PORT
    limit_own_http_port: Annotated[
        Limit, Meta(description="Maximum number of HTTP entrypoints that belong to one port.")
    ] = 1000
    port_mapping: Annotated[
        str,
        Meta(description="File that stores the entrypoints of TCP and UDP ports; default: one for each set of paths."),
    ] = ""
    api_port: Annotated[Port, Meta(description="Port of the controller's API.")] = 9000
    api_hosts: Annotated[
        tuple[str, ...],
        Meta(
            description="Further names under which the API answers, besides addresses and the names of this machine and"
            " of the cluster; all: every name."
        ),
    ] = ()


@dataclass(frozen=True, kw_only=True)
class ClusterSettings(CommonSettings):
    """How to reach the cluster: shared by the commands that use its API server."""

    kubeconfig: Annotated[
        str,
        Meta(description="Kubeconfig of the cluster; default: the pod's account, KUBECONFIG, ~/.kube/config."),
    ] = ""
    master_url: Annotated[str, Meta(description="Address of the API server; overrides the kubeconfig.")] = ""


@dataclass(frozen=True, kw_only=True)
class ControllerSettings(MeshSettings, ClusterSettings):
    """Settings of `maesh controller`."""

    paths: tuple[str, ...] = ()
    api_host: Annotated[str, Meta(description="Address on which the API listens; default: all.")] = ""
    api_cert: Annotated[
        str, Meta(description="File with the API's certificate chain (PEM), for TLS; loaded again if it is replaced.")
    ] = ""
    api_key: Annotated[str, Meta(description="File with the key of the API's certificate (PEM).")] = ""
    api_tokens: Annotated[
        str,
        Meta(
            description="File with a name and a token in each line: the API answers only requests with such a bearer"
            " token, except for its readiness; loaded again if it is replaced."
        ),
    ] = ""
    api_clear: Annotated[
        bool,
        Meta(
            description="Also answer requests without TLS, from any client, if a plugin protects the API; for the"
            " time in which proxies change to TLS."
        ),
    ] = False
    api_open: Annotated[
        tuple[str, ...],
        Meta(description="Paths that a protected API lets everybody read, also without TLS, such as /metrics."),
    ] = ()
    cluster_domain: Annotated[str, Meta(description="DNS domain of the cluster.")] = "cluster.local"
    prometheus: Annotated[
        str,
        Meta(description="URL of a Prometheus that scrapes the proxies: /api/traffic reads it instead of the proxies."),
    ] = ""


@dataclass(frozen=True, kw_only=True)
class CarryingSettings(ClientHeaderSettings):
    """How traffic is routed: shared by `proxy` and `up`."""

    admin_port: Annotated[
        Port, Meta(description="Port for /ping, /ready, /metrics, /traffic, /tap, /status, /configuration.")
    ] = 8080
    workers: Annotated[
        int, Meta(ge=1, le=256, description="Number of worker processes; use at most one for each core.")
    ] = 1
    node: Annotated[str, Meta(description="Name that this proxy sends when it pulls; default: the host's name.")] = ""
    head_limit: Annotated[
        int,
        Meta(
            ge=1024,
            description="Maximum size of a head, in bytes; larger requests get 431, larger responses become 502.",
        ),
    ] = 65536
    target_limit: Annotated[
        int, Meta(ge=256, description="Maximum length of a request line, in bytes; longer ones get 414.")
    ] = 16384
    field_limit: Annotated[
        int,
        Meta(
            ge=64,
            description="Maximum number of header fields; requests with more get 431, responses with more become 502.",
        ),
    ] = 100
    body_limit: Annotated[
        LimitOrNone, Meta(description="Maximum size of a request body, in bytes; larger ones get 413; 0: no limit.")
    ] = 0
    connection_limit: Annotated[
        LimitOrNone,
        Meta(
            description="Maximum number of client connections of a worker, for HTTP and TCP separately; at the limit,"
            " idle HTTP connections are evicted, then new connections are refused; 0: no limit."
        ),
    ] = 10000
    client_connection_limit: Annotated[
        LimitOrNone,
        Meta(
            description="Maximum number of connections of one client address in a worker, for HTTP and TCP separately;"
            " further ones are refused; 0: no limit."
        ),
    ] = 0
    request_limit: Annotated[
        LimitOrNone,
        Meta(description="Maximum number of requests on a client connection, which is then closed; 0: no limit."),
    ] = 0
    metrics_exact_codes: Annotated[
        bool, Meta(description="Count requests by exact status, such as 204, instead of by class, such as 2xx.")
    ] = False
    metrics_client_limit: Annotated[
        LimitOrNone,
        Meta(
            description="Maximum number of pairs of client address and service that a worker counts separately;"
            " further ones are counted together, as other; 0: count none."
        ),
    ] = 1000
    metrics_fine_durations: Annotated[
        bool,
        Meta(
            description="Have a histogram of durations for each server, and for each pair of client address and"
            " service; without, only for services, branches, rules and entrypoints."
        ),
    ] = True
    http2: Annotated[
        bool, Meta(description="Accept HTTP/2 on the HTTP entrypoints, and offer it to https servers.")
    ] = True
    http2_stream_limit: Annotated[
        int, Meta(ge=1, le=10000, description="Maximum number of concurrent requests on an HTTP/2 client connection.")
    ] = 100
    http2_reset_limit: Annotated[
        int,
        Meta(
            ge=1,
            description="Requests of an HTTP/2 connection that the client may cancel, or that the proxy resets because"
            " of the client's errors, before the connection is closed. Each answered request, and each fifth of a"
            " second, reduces the count by one.",
        ),
    ] = 200
    http2_control_limit: Annotated[
        int,
        Meta(
            ge=100,
            description="HTTP/2 frames that neither start a request nor carry data, such as PING and SETTINGS, that a"
            " client or a server may send before the connection is closed. Data, answered requests and time reduce the"
            " count.",
        ),
    ] = 1000
    half_closed_clients: Annotated[
        Literal["drop", "serve"],
        Meta(description="End (drop) or answer (serve) the request of a client that closes its sending side."),
    ] = "drop"
    forwarded_headers: Annotated[
        NetworkList,
        Meta(
            description="Clients whose headers X-Forwarded-*, X-Real-Ip and Forwarded are kept: all, none, or addresses"
            " and networks; for other clients they are replaced."
        ),
    ] = ("all",)
    drop_shadowing_headers: Annotated[
        bool,
        Meta(
            description="Drop request headers with underscores that a server may read as X-Forwarded-*, X-Real-Ip,"
            " Content-Length or Transfer-Encoding."
        ),
    ] = True
    unregistered_methods: Annotated[
        Literal["refuse", "carry"],
        Meta(description="Answer requests with an unknown method with 501 (refuse), or forward them (carry)."),
    ] = "refuse"
    head_timeout: Annotated[Duration, Meta(description="Time for a client to send a request's head; then 408.")] = 10.0
    idle_timeout: Annotated[Duration, Meta(description="Time after which an idle client connection is closed.")] = 90.0
    body_timeout: Annotated[
        Duration,
        Meta(description="Longest pause of a client while it sends or reads a body; then its connection is closed."),
    ] = 60.0
    upstream_body_timeout: Annotated[
        Duration,
        Meta(description="Longest pause of an upstream while it sends or reads a body; then it is closed, or 504."),
    ] = 60.0
    connect_timeout: Annotated[
        Duration, Meta(description="Time to connect to an upstream; then 504 (HTTP), or the next server (TCP).")
    ] = 5.0
    response_timeout: Annotated[
        Duration, Meta(description="Time for an upstream to send a response's head; then 504.")
    ] = 60.0
    upstream_idle_timeout: Annotated[
        Duration, Meta(description="Time after which an idle connection of the connection pool is closed.")
    ] = 60.0
    passive_health: Annotated[
        bool, Meta(description="Set aside servers that refuse connections, or break them instead of answering.")
    ] = True
    server_pause: Annotated[
        Duration, Meta(description="First pause of a server that is set aside; each further failure doubles it.")
    ] = 1.0
    server_pause_limit: Annotated[Duration, Meta(description="Longest pause of a server that is set aside.")] = 30.0
    root_ca: Annotated[
        str,
        Meta(description="File with CA certificates (PEM) to trust for https servers, in addition to the system's."),
    ] = ""
    insecure_skip_verify: Annotated[
        bool, Meta(description="Accept any certificate of https servers, except those outside of the mesh.")
    ] = False
    tunnel_timeout: Annotated[
        Duration,
        Meta(description="Time after which an idle tunnel (WebSocket) or TCP connection is closed; 0: no limit."),
    ] = 0.0
    drain_timeout: Annotated[
        Duration, Meta(description="Time for running requests and connections to finish after SIGTERM.")
    ] = 10.0


@dataclass(frozen=True, kw_only=True)
class ApiClientSettings(CommonSettings):
    """How to reach a controller's API that is protected: shared by the proxy and the commands that use the API."""

    root_ca_controller: Annotated[
        str,
        Meta(description="File with the only CA certificates (PEM) to trust for an https endpoint; default: system's."),
    ] = ""
    controller_token: Annotated[
        str, Meta(description="File with the token to send to the controller, as the last word of its first line.")
    ] = ""


@dataclass(frozen=True, kw_only=True)
class ProxySettings(CarryingSettings, ApiClientSettings):
    """Settings of `maesh proxy`."""

    endpoint: Annotated[str, Meta(description="The controller's base URL, or the full URL of its configuration.")] = ""
    bind: Annotated[str, Meta(description="Address on which entrypoints listen; default: all.")] = ""
    admin_host: Annotated[str, Meta(description="Address on which the admin port listens; default: all.")] = ""
    admin_clear: Annotated[
        bool, Meta(description="Answer everybody at the admin port, also without TLS, although a plugin protects it.")
    ] = False
    admin_open: Annotated[
        tuple[str, ...],
        Meta(description="Pages of a protected admin port that everybody may read, also in clear, such as /metrics."),
    ] = ()
    configuration_cache: Annotated[
        str, Meta(description="File that stores the last configuration, to start with if no controller is reachable.")
    ] = ""


@dataclass(frozen=True, kw_only=True)
class UpSettings(MeshSettings, CarryingSettings):
    """Settings of `maesh up`."""

    paths: tuple[str, ...] = ()
    bind: Annotated[str, Meta(description="Address of the API, the admin port and the entrypoints.")] = "127.0.0.1"
    json: Annotated[bool, Meta(description="Print one line of JSON instead of the table when the mesh is ready.")] = (
        False
    )


@dataclass(frozen=True, kw_only=True)
class ExplainSettings(ManifestSettings, ClusterSettings, ApiClientSettings):
    """Settings of `maesh explain`."""

    endpoint: Annotated[
        str,
        Meta(description="Base URL of one controller; default: one of the cluster's, or the one on this machine."),
    ] = ""
    json: Annotated[bool, Meta(description="Print JSON instead of text.")] = False


@dataclass(frozen=True, kw_only=True)
class CleanupSettings(ClusterSettings):
    """Settings of `maesh cleanup`."""

    namespace: Annotated[str, Meta(description="Namespace of the mesh itself.")] = "maesh"
    dry_run: Annotated[bool, Meta(description="Print the changes as a diff, and write nothing.")] = False


@dataclass(frozen=True, kw_only=True)
class PrepareSettings(CleanupSettings):
    """Settings of `maesh prepare`."""

    cluster_domain: Annotated[str, Meta(description="DNS domain of the cluster.")] = "cluster.local"


@dataclass(frozen=True, kw_only=True)
class StatusSettings(ClusterSettings, ApiClientSettings):
    """Settings of `maesh status`."""

    endpoint: Annotated[
        str, Meta(description="Base URL of one controller; default: those of the cluster, or the one on this machine.")
    ] = ""
    namespace: Annotated[str, Meta(description="Namespace of the mesh itself.")] = "maesh"
    json: Annotated[bool, Meta(description="Print JSON instead of tables.")] = False


@dataclass(frozen=True, kw_only=True)
class PluginCommandSettings(ClusterSettings, ApiClientSettings):
    """Settings of the commands of plugins."""

    endpoint: Annotated[
        str, Meta(description="Base URL of one controller; default: those of the cluster, or the one on this machine.")
    ] = ""
    namespace: Annotated[str, Meta(description="Namespace of the mesh itself.")] = "maesh"
    json: Annotated[bool, Meta(description="Print JSON instead of text.")] = False


@dataclass(frozen=True, kw_only=True)
class ManifestCommandSettings(PluginCommandSettings, ManifestSettings):
    """Settings of the commands of plugins that also read manifests."""


@dataclass(frozen=True, kw_only=True)
class DashboardSettings(ClusterSettings, ApiClientSettings):
    """Settings of `maesh dashboard`."""

    endpoint: Annotated[
        str,
        Meta(description="Base URL of one controller; default: those of the cluster, or the one on this machine."),
    ] = ""
    namespace: Annotated[str, Meta(description="Namespace of the mesh itself.")] = "maesh"
    local_port: Annotated[Port, Meta(description="Port of this machine for the browser; 0: any free one.")] = 0


@dataclass(frozen=True, kw_only=True)
class PluginsSettings(CommonSettings):
    """Settings of `maesh plugins`."""

    json: Annotated[bool, Meta(description="Print JSON instead of the table.")] = False
