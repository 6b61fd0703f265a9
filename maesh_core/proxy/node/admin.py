"""The pages of the admin port: /ping, /ready, /metrics, /traffic, /status and /configuration.

Takes a request's method and target, reads the node's state, and returns a Response or an awaitable of one.
maesh_core/plain_http serves the port.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import msgspec

from maesh_core.plain_http.messages import Response
from maesh_core.proxy.routing.refusals import RefusedRouter


class ProxyStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `/status`. `workers` counts workers that route traffic; `refused` lists refused routers.

    `engine` is the form of the engine's modules: `compiled` or `pure`.
    """

    revision: str | None
    ready: bool
    workers: int
    engine: str
    refused: Sequence[RefusedRouter]


class Request(Protocol):
    """The part of a request that is used."""

    @property
    def method(self) -> bytes:
        """The method as it was sent."""

    @property
    def target(self) -> bytes:
        """Path and query."""


class AdminPages:
    """Answers the requests of the admin port when called.

    `read_status` and the functions that render are called per request for their page. `render_traffic` returns a
    `ProxyTraffic` as JSON, `render_configuration` returns None before the first configuration.
    """

    __slots__ = ("_is_ready", "_pages", "_read_status", "_render_configuration", "_render_metrics", "_render_traffic")

    def __init__(
        self,
        *,
        is_ready: Callable[[], bool],
        read_status: Callable[[], ProxyStatus],
        render_metrics: Callable[[], Awaitable[tuple[bytes, str]]],
        render_traffic: Callable[[], Awaitable[bytes]],
        render_configuration: Callable[[], bytes | None],
    ) -> None:
        self._is_ready = is_ready
        self._read_status = read_status
        self._render_metrics = render_metrics
        self._render_traffic = render_traffic
        self._render_configuration = render_configuration
        self._pages: dict[bytes, Callable[[], Response | Awaitable[Response]]] = {
            b"/ping": self._answer_ping,
            b"/ready": self._answer_ready,
            b"/metrics": self._answer_metrics,
            b"/traffic": self._answer_traffic,
            b"/status": self._answer_status,
            b"/configuration": self._answer_configuration,
        }

    def __call__(self, request: Request) -> Response | Awaitable[Response]:
        """Answer one request."""
        page = self._pages.get(request.target.partition(b"?")[0])
        if page is None:
            return build_text(404, "no such page")
        if request.method not in {b"GET", b"HEAD"}:
            return build_text(405, "only GET and HEAD are supported", (b"Allow", b"GET, HEAD"))
        return page()

    def _answer_ping(self) -> Response:
        return build_text(200, "alive")

    def _answer_ready(self) -> Response:
        if self._is_ready():
            return build_text(200, "ready")
        return build_text(503, "not ready")

    async def _answer_metrics(self) -> Response:
        body, content_type = await self._render_metrics()
        return _build_page(body, content_type.encode("ascii"))

    async def _answer_traffic(self) -> Response:
        return _build_page(await self._render_traffic(), b"application/json")

    def _answer_status(self) -> Response:
        return _build_page(msgspec.json.encode(self._read_status()), b"application/json")

    def _answer_configuration(self) -> Response:
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
    common = ((b"Content-Type", content_type), (b"X-Maesh-Reason", reason.encode("ascii")))
    return Response(status=status, fields=(*common, *fields), body=body)
