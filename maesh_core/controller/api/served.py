"""What the controller's API serves (handlers.py, pulls.py), as the interfaces of the parts that it asks.

Declares, and does nothing.
"""

from collections.abc import Mapping
from typing import Protocol

from maesh_core.controller.api.nodes import AdminAddress
from maesh_core.controller.explaining.pod_lookup import PodLookup
from maesh_core.model.messages import ControllerReport
from maesh_core.model.traffic import TrafficReport
from maesh_core.plain_http.messages import BodyStream, Request, Response


class Published(Protocol):
    """What the API serves. `render_configuration` returns None if a revision has nothing new."""

    @property
    def is_ready(self) -> bool: ...  # noqa: D102

    @property
    def revision(self) -> str: ...  # noqa: D102

    def render_configuration(self, since: str | None) -> bytes | None: ...  # noqa: D102

    def render_topology(self) -> bytes: ...  # noqa: D102

    def render_services(self) -> bytes: ...  # noqa: D102

    @property
    def pods(self) -> PodLookup: ...  # noqa: D102

    def render_objects(self) -> bytes: ...  # noqa: D102

    @property
    def status_pages(self) -> tuple[str, ...]: ...  # noqa: D102

    def render_statuses(self, page: str) -> bytes: ...  # noqa: D102


class NodeFetcher(Protocol):
    """Sends requests to proxies."""

    async def fetch_configuration(self, address: AdminAddress) -> bytes:
        """Fetch the configuration that the proxy applies, as JSON; raises NodeUnreachableError."""

    async def fetch_status(self, address: AdminAddress) -> bytes:
        """Fetch the proxy's status, as JSON; raises NodeUnreachableError."""


class TrafficReporter(Protocol):
    """Measures the traffic of the mesh."""

    async def report(self) -> TrafficReport:
        """Return a current report; raises TrafficUnavailableError."""


class Explains(Protocol):
    """Says what would happen to a request."""

    async def answer(self, request: Request) -> Response: ...  # noqa: D102


class Taps(Protocol):
    """Shows the traffic of the mesh as it happens."""

    def open(self, parameters: Mapping[str, str], client: str) -> BodyStream:
        """Open a tap for a client's address; raises ValueError with a reason, and TooManyTapsError."""

    def finish(self) -> None:
        """End all taps."""


class ReportedStatus(Protocol):
    """The status of this controller. One that is not current answers no pull."""

    @property
    def is_current(self) -> bool: ...  # noqa: D102

    def report(self) -> ControllerReport: ...  # noqa: D102


class Metrics(Protocol):
    """The metrics of this controller."""

    def render(self, accept: str) -> tuple[bytes, str]: ...  # noqa: D102
