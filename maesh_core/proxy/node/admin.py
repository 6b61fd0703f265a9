"""The pages of the admin port: /ping, /ready, /metrics, /traffic, /reports/NAME, /tap, /status and /configuration.

Takes a request's method and target, reads the node's state, and returns a Response or an awaitable of one.
maesh_core/plain_http serves the port.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from maesh_core.plain_http.browser_marks import is_from_browser
from maesh_core.plain_http.messages import BodyStream, Response, read_field
from maesh_core.proxy.node.taps import TooManyTapsError
from maesh_core.proxy.routing.refusals import RefusedRouter

_GUARDING_FIELDS = ((b"Cross-Origin-Resource-Policy", b"same-origin"), (b"X-Content-Type-Options", b"nosniff"))
"""A page of another site cannot include an answer, neither as what it is nor as a script."""
PROBE_PAGES = frozenset({b"/ping", b"/ready"})
"""Pages that everybody may read: the kubelet's probes."""
_NOT_FOR_BROWSERS = frozenset({b"/tap", b"/traffic"})
"""A web site could make a browser follow live traffic, under a name of the site that points to this port, or keep all
taps in use; only the controller needs these pages."""


REPORTS = b"/reports/"
"""The beginning of the paths of plugins' reports, which only the controller needs."""
_is_report_name = re.compile(rb"[a-z0-9-]{1,64}").fullmatch


class ProxyStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `/status`. `workers` counts workers that route traffic; `refused` lists refused routers.

    `engine` is the form of the engine's modules: `compiled` or `pure`. `services` has the state that services of
    plugins report, by plugin, if there is any.
    """

    revision: str | None
    ready: bool
    workers: int
    engine: str
    refused: Sequence[RefusedRouter]
    services: Mapping[str, Mapping[str, str]] | msgspec.UnsetType = msgspec.UNSET


class Request(Protocol):
    """The part of a request that is used."""

    @property
    def method(self) -> bytes:
        """The method as it was sent."""

    @property
    def target(self) -> bytes:
        """Path and query."""

    @property
    def remote(self) -> str:
        """The client's address."""

    @property
    def fields(self) -> Sequence[tuple[bytes, bytes]]:
        """The header fields, with names in lower case."""


class AdminPages:
    """Answers the requests of the admin port when called.

    `read_status` and the functions that render are called per request for their page. `render_metrics` takes the field
    Accept, and returns the page and its content type. `render_traffic` returns a `ProxyTraffic` as JSON,
    `render_report` returns a plugin's report as JSON, or None if there is no report of this name;
    `render_configuration` returns None before the first configuration. `open_tap` takes a query and a client's address,
    and returns a stream; it raises ValueError with a reason, and TooManyTapsError.
    """

    __slots__ = (
        "_is_ready",
        "_open_tap",
        "_pages",
        "_read_status",
        "_render_configuration",
        "_render_metrics",
        "_render_report",
        "_render_traffic",
    )

    def __init__(
        self,
        *,
        is_ready: Callable[[], bool],
        read_status: Callable[[], ProxyStatus],
        render_metrics: Callable[[str], Awaitable[tuple[bytes, str]]],
        render_traffic: Callable[[], Awaitable[bytes]],
        render_report: Callable[[str], Awaitable[bytes | None]],
        render_configuration: Callable[[], bytes | None],
        open_tap: Callable[[bytes, str], BodyStream],
    ) -> None:
        self._is_ready = is_ready
        self._read_status = read_status
        self._render_metrics = render_metrics
        self._render_traffic = render_traffic
        self._render_report = render_report
        self._render_configuration = render_configuration
        self._open_tap = open_tap
        self._pages: dict[bytes, Callable[[Request], Response | Awaitable[Response]]] = {
            b"/ping": self._answer_ping,
            b"/ready": self._answer_ready,
            b"/metrics": self._answer_metrics,
            b"/traffic": self._answer_traffic,
            b"/tap": self._answer_tap,
            b"/status": self._answer_status,
            b"/configuration": self._answer_configuration,
        }

    def __call__(self, request: Request) -> Response | Awaitable[Response]:
        """Answer one request."""
        path = request.target.partition(b"?")[0]
        is_report = path.startswith(REPORTS) and _is_report_name(path.removeprefix(REPORTS)) is not None
        page = self._answer_report if is_report else self._pages.get(path)
        if page is None:
            return build_text(404, "no such page")
        if request.method not in {b"GET", b"HEAD"}:
            return build_text(405, "only GET and HEAD are supported", (b"Allow", b"GET, HEAD"))
        if (is_report or path in _NOT_FOR_BROWSERS) and is_from_browser(request.fields):
            return build_text(403, "not for browsers: the controller shows this traffic")
        return page(request)

    def _answer_ping(self, _: Request) -> Response:
        return build_text(200, "alive")

    def _answer_ready(self, _: Request) -> Response:
        if self._is_ready():
            return build_text(200, "ready")
        return build_text(503, "not ready")

    async def _answer_metrics(self, request: Request) -> Response:
        body, content_type = await self._render_metrics(read_field(request.fields, b"accept"))
        return _build_page(body, content_type.encode("ascii"))

    async def _answer_traffic(self, _: Request) -> Response:
        return _build_page(await self._render_traffic(), b"application/json")

    async def _answer_report(self, request: Request) -> Response:
        name = request.target.partition(b"?")[0].removeprefix(REPORTS).decode("ascii")
        body = await self._render_report(name)
        return build_text(404, "no such report") if body is None else _build_page(body, b"application/json")

    def _answer_tap(self, request: Request) -> Response:
        try:
            stream = self._open_tap(request.target.partition(b"?")[2], request.remote)
        except ValueError as error:
            return build_text(400, str(error).encode("ascii", "backslashreplace").decode("ascii"))
        except TooManyTapsError:
            return build_text(503, "too many taps are open")
        fields = ((b"Content-Type", b"application/x-ndjson"), (b"Cache-Control", b"no-store"), *_GUARDING_FIELDS)
        return Response(status=200, fields=fields, stream=stream, is_last=True)

    def _answer_status(self, _: Request) -> Response:
        return _build_page(msgspec.json.encode(self._read_status()), b"application/json")

    def _answer_configuration(self, _: Request) -> Response:
        body = self._render_configuration()
        if body is None:
            return build_text(503, "no configuration yet")
        return _build_page(body, b"application/json")


def build_text(status: int, reason: str, *fields: tuple[bytes, bytes]) -> Response:
    """Build a short text response; `reason` is ASCII, and is also the value of `X-Maesh-Reason`."""
    return _build(status, reason, reason.encode("ascii") + b"\n", b"text/plain; charset=utf-8", *fields)


def _build_page(body: bytes, content_type: bytes) -> Response:
    return _build(200, "ok", body, content_type)


def _build(status: int, reason: str, body: bytes, content_type: bytes, *fields: tuple[bytes, bytes]) -> Response:
    common = ((b"Content-Type", content_type), (b"X-Maesh-Reason", reason.encode("ascii")), *_GUARDING_FIELDS)
    return Response(status=status, fields=(*common, *fields), body=body)
