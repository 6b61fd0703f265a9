"""The controller as plugins see it: tasks that run in it, and the cluster that it belongs to.

Interfaces only. `controller/services.py` runs the tasks; `controller/cluster/cluster_api.py` is the cluster.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Protocol

from maesh_core.model.keys import ObjectKey
from maesh_core.model.messages import NodeReport as NodeReport
from maesh_core.model.metrics import MetricFamily
from maesh_core.model.resources import Pod, Resource, ResourceKind
from maesh_core.model.token_identity import TokenIdentity as TokenIdentity
from maesh_core.model.topology import ServiceNode
from maesh_core.plugin_system.reports import ProxyReport as ProxyReport

# --- controller services ---------------------------------------------------------------------------------------------


class ClusterApi(Protocol):
    """The API server of the controller's cluster. Every method that sends requests raises KubernetesError."""

    async def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        timeout_s: float = 30.0,
    ) -> bytes:
        """Send a request, `body` as JSON, and return the body of the response. The path is that of the URL."""

    def watch_object(
        self, kind: ResourceKind, key: ObjectKey, *, report: Callable[[str | None], None]
    ) -> AsyncIterator[Resource | None]:
        """Yield an object of this kind when it is first read and after each change, forever; None if it is missing.

        `report` is called with a problem when the object cannot be read, and with None when it can again.
        """

    async def review_token(self, token: str, audiences: Sequence[str], *, source: str = "") -> TokenIdentity | None:
        """Return the owner of a token that is valid for one of the audiences; None if it is not.

        The number of requests is limited, also for each `source`, such as an address. Answers are kept for 10 seconds.
        """

    async def review_access(self, identity: TokenIdentity, verb: str, path: str, *, source: str = "") -> bool:
        """Return whether an owner may use a path that is no resource, with a verb such as `get`."""


class ControllerNode(Protocol):
    """The controller, as pages and services of plugins see it."""

    @property
    def name(self) -> str:
        """The name of this controller, which is unique in the mesh."""

    @property
    def settings(self) -> Any:
        """The controller's settings."""

    @property
    def is_leader(self) -> bool:
        """Whether this controller may write to the cluster now; always true without a cluster."""

    @property
    def cluster(self) -> ClusterApi | None:
        """The cluster; None if the objects come from elsewhere, such as manifests."""

    def find_pod(self, key: ObjectKey) -> Pod | None:
        """Find a pod that the controller knows now."""

    def render_topology(self) -> bytes:
        """Render the document of `/api/topology/current`, as JSON. In a large mesh it has megabytes."""

    @property
    def mesh_nodes(self) -> Mapping[str, Any]:
        """The nodes that take part in the transport, by name, as its rules describe them."""

    async def list_proxies(self) -> tuple[Sequence[NodeReport], bool]:
        """List what proxies report to all controllers of the mesh, and whether all controllers have answered.

        There may be several reports of a name: of two proxies of one node, or an old one of another controller.
        """

    async def gather_reports(self, name: str, add: Callable[[ProxyReport], None]) -> bool:
        """Call `add` with the report of this name of each proxy, as it arrives; `ReportingFactory` makes reports.

        A proxy that does not answer has an error. Returns whether all controllers named their proxies.
        """

    def find_pods(self, address: str) -> Sequence[Pod]:
        """Find the pods that have an address now, in canonical form, without those that have ended."""

    def list_services(self) -> Sequence[ServiceNode]:
        """List the nodes of all services after every topology builder, sorted by namespace and name."""

    def list_own_proxies(self) -> Sequence[NodeReport]:
        """List what proxies report to this controller."""

    def refresh_transport(self) -> None:
        """Describe all nodes, and what they share, again, because the transport's rules have other results now."""

    def report(self, origin: str, problem: str | None) -> None:
        """Show a problem in `/api/status/controller`, and so in `maesh status`, until it is None."""


class ControllerService(Protocol):
    """A task of the controller."""

    name: str

    async def run(self) -> None:
        """Run until cancelled. If it raises, the failure is logged, and it is started again with back-off."""


class PreparedService(ControllerService, Protocol):
    """A task of the controller that must know something before the first configuration is built."""

    async def prepare(self) -> None:
        """Read what is needed. Called once; until it returns, the API answers nothing but probes.

        Raising ConfigurationError stops the start.
        """


class CountingService(ControllerService, Protocol):
    """A task of the controller that has metrics."""

    def collect_metrics(self) -> Sequence[MetricFamily]:
        """Return the metrics; called at each scrape of the controller."""
