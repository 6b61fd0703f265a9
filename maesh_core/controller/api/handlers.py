"""The handlers of the controller's HTTP API: they take requests, and return JSON or a short plain text.

Serves what a `Published` offers and the pages of plugins, records in the node registry who pulled, and asks proxies
only through a `NodeFetcher`. No answer, refusals of malformed requests included, names the software. Only GET and HEAD
are supported.
"""

import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

import msgspec

from maesh_core.controller.api.nodes import NodeRegistry
from maesh_core.controller.api.pages import (
    answer_page,
    answer_post,
    find_post_page,
    is_browser_page,
    is_costly_page,
    is_open_page,
    list_body_limits,
)
from maesh_core.controller.api.paths import LIVENESS_PATH, PULL_PATH, READINESS_PATH, REPORTS_PATH
from maesh_core.controller.api.pulls import HELD_PULLS_LIMIT, NOT_READY, Pulls
from maesh_core.controller.api.queries import read_path, read_query
from maesh_core.controller.api.request_counts import CLIENT_LEFT, OTHER_PATH, PAGE_PATH, RequestCounts
from maesh_core.controller.api.security.access import ApiAccess
from maesh_core.controller.api.security.authentication import Authentication, Caller
from maesh_core.controller.api.security.browser_guard import BrowserGuard
from maesh_core.controller.api.served import (
    Explains,
    Metrics,
    NodeFetcher,
    Published,
    ReportedStatus,
    Taps,
    TrafficReporter,
)
from maesh_core.controller.api.server import build_json, build_text, to_response, to_stream
from maesh_core.controller.tap.mesh_tap import TooManyTapsError
from maesh_core.controller.traffic.gathering import select_services
from maesh_core.errors import NodeUnreachableError, TrafficUnavailableError
from maesh_core.model.addresses import parse_address
from maesh_core.model.keys import ObjectKey
from maesh_core.model.metrics import MetricFamily
from maesh_core.model.traffic import TrafficReport
from maesh_core.plain_http.messages import Request, Response, read_field
from maesh_core.plugin_system.pages import ApiPage, PageRequest

STATUS_PREFIX = "/api/status/"
NODE_PREFIX = "/api/status/node/"
NODE_SUFFIX = "/configuration"
NODE_STATUS_SUFFIX = "/status"
NODE_PATH = f"{NODE_PREFIX}NAME{NODE_SUFFIX}"
NODE_STATUS_PATH = f"{NODE_PREFIX}NAME{NODE_STATUS_SUFFIX}"
COSTLY_PATHS = frozenset({"/api/explain", "/api/tap", "/api/traffic"})
"""Answers for which the controller works for long, or asks proxies; those about one proxy are costly as well."""

_SERVICE_PATTERN = re.compile(r"([^/:]{1,253})/([^/:]{1,253})(?::([1-9][0-9]{0,4}))?", re.ASCII)
_log = logging.getLogger(__name__)


class Api:
    """Answers requests. `wake` after each revision, `close` before the server stops."""

    def __init__(
        self,
        published: Published,
        nodes: NodeRegistry,
        node_fetcher: NodeFetcher,
        *,
        status: ReportedStatus,
        traffic: TrafficReporter,
        taps: Taps,
        explanations: Explains,
        metrics: Metrics,
        held_limit: int = HELD_PULLS_LIMIT,
        guard: BrowserGuard | None = None,
        pages: Mapping[str, ApiPage] | None = None,
        authentication: Authentication | None = None,
        is_protected: Callable[[], bool] = lambda: True,
    ) -> None:
        self._access = ApiAccess(guard or BrowserGuard(), authentication)
        self._pages = pages or {}
        self._is_protected = is_protected
        self._status = status
        self._traffic = traffic
        self._taps = taps
        self._explanations = explanations
        self._rendered_traffic: tuple[TrafficReport, bytes] | None = None
        self._metrics = metrics
        self._counts = RequestCounts()
        self._published = published
        self._nodes = nodes
        self._node_fetcher = node_fetcher
        self._pulls = Pulls(published, nodes, status, held_limit)
        self._routes: dict[str, Callable[[Request], Awaitable[Response]]] = {
            PULL_PATH: self._pulls.answer,
            "/api/topology/current": self._get_topology,
            "/api/services": self._get_services,
            "/api/pods": self._get_pods,
            "/api/objects": self._get_objects,
            "/api/traffic": self._get_traffic,
            "/api/explain": self._get_explanation,
            "/api/tap": self._get_tap,
            "/api/status/controller": self._get_controller,
            REPORTS_PATH: self._get_nodes,
            READINESS_PATH: self._get_readiness,
            LIVENESS_PATH: self._get_liveness,
            "/metrics": self._get_metrics,
            **{f"{STATUS_PREFIX}{page}": self._get_statuses for page in published.status_pages},
        }

    def __repr__(self) -> str:
        return f"<Api {self._published.revision} {self._pulls!r}>"

    @property
    def body_limits(self) -> Mapping[bytes, int]:
        """The limits of the bodies of POST requests, by path."""
        return list_body_limits(self._pages)

    @property
    def held_pulls(self) -> int:
        """How many pulls wait for a revision."""
        return self._pulls.held

    def wake(self) -> None:
        """Answer the waiting pulls, because there is a new revision."""
        self._pulls.wake()

    def close(self) -> None:
        """Answer the waiting pulls, hold no more pulls, and end all taps."""
        self._pulls.close()
        self._taps.finish()

    def collect_metrics(self) -> list[MetricFamily]:
        """Return the counts of requests and pulls."""
        return self._counts.collect(self.held_pulls)

    async def handle(self, request: Request) -> Response:
        """Answer one request, and count it."""
        path = read_path(request)
        route = self._find_route(path)
        code, tag = CLIENT_LEFT, ""
        try:
            response = await self._answer(request, path, route)
            code, tag = response.status, _find_tag(response)
        finally:  # also if the client leaves, which cancels the answer
            name = self._find_counted_name(path, route)
            self._counts.count(name, code)
            if name == PULL_PATH:
                self._counts.count_pull(code, tag)
        return response

    async def _answer(
        self, request: Request, path: str, route: Callable[[Request], Awaitable[Response]] | None
    ) -> Response:
        """Answer one request; an internal error is logged and answered with 500, without details."""
        is_pull = path == PULL_PATH and b"?" in request.target  # may add a proxy, which the controller then asks
        page = self._pages.get(path)
        caller = await self._access.admit(
            request,
            path,
            node=read_query(request).get("node") if is_pull else None,
            is_page=is_browser_page(page),
            is_costly=is_pull or path in COSTLY_PATHS or route == self._get_of_node or is_costly_page(page),
            is_open=is_open_page(page),
        )
        if not isinstance(caller, Caller):
            return caller
        if route is None:
            paths = ", ".join((*self._routes, NODE_PATH, NODE_STATUS_PATH))
            return build_text(HTTPStatus.NOT_FOUND, f"not found; the paths are {paths}\n")
        post_page = find_post_page(page) if request.method == b"POST" else None
        if request.method not in (b"GET", b"HEAD") and post_page is None:
            return build_text(
                HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD are supported\n", {"Allow": "GET, HEAD"}
            )
        try:
            return await (route(request) if post_page is None else answer_post(post_page, request, caller))
        except Exception:
            _log.exception("the API could not answer %s", path)
            return build_text(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error; see the controller's log\n")

    def _find_route(self, path: str) -> Callable[[Request], Awaitable[Response]] | None:
        if path in self._pages:
            return self._get_page
        is_of_node = path.startswith(NODE_PREFIX) and path.endswith((NODE_SUFFIX, NODE_STATUS_SUFFIX))
        return self._get_of_node if is_of_node else self._routes.get(path)

    def _find_counted_name(self, path: str, route: object) -> str:
        if route is None or path in self._pages:
            return OTHER_PATH if route is None else PAGE_PATH
        if path in self._routes:
            return path
        return NODE_PATH if path.endswith(NODE_SUFFIX) else NODE_STATUS_PATH

    async def _get_topology(self, _: Request) -> Response:
        return build_json(self._published.render_topology())

    async def _get_services(self, _: Request) -> Response:
        return build_json(self._published.render_services())

    async def _get_pods(self, request: Request) -> Response:
        """Answer with the pods of one name or one address. There is no list of all pods: 100,000 are 20 MB."""
        query = read_query(request)
        if not self._published.is_ready:
            return build_text(HTTPStatus.SERVICE_UNAVAILABLE, NOT_READY, {"Retry-After": "1"})
        if set(query) == {"namespace", "name"}:
            found = self._published.pods.find_by_name(ObjectKey(query["namespace"], query["name"]))
        elif set(query) == {"address"} and (address := parse_address(query["address"])) is not None:
            found = self._published.pods.find_by_address(address)
        else:
            return build_text(HTTPStatus.BAD_REQUEST, "name a pod by namespace= and name=, or by address=\n")
        return build_json(msgspec.json.encode(found))

    async def _get_objects(self, _: Request) -> Response:
        return build_json(self._published.render_objects())

    async def _get_statuses(self, request: Request) -> Response:
        return build_json(self._published.render_statuses(read_path(request).removeprefix(STATUS_PREFIX)))

    async def _get_traffic(self, request: Request) -> Response:
        """Answer with the measured traffic, of all services or of one."""
        query = read_query(request)
        service = _SERVICE_PATTERN.fullmatch(query.get("service", ""))
        if query and (service is None or set(query) != {"service"}):
            return build_text(
                HTTPStatus.BAD_REQUEST, "the only parameter is service=NAMESPACE/NAME or service=NAMESPACE/NAME:PORT\n"
            )
        if not self._published.is_ready:
            return build_text(HTTPStatus.SERVICE_UNAVAILABLE, NOT_READY, {"Retry-After": "1"})
        try:
            report = await self._traffic.report()
        except TrafficUnavailableError as error:
            return build_text(HTTPStatus.BAD_GATEWAY, f"{error}\n")
        if service is not None:
            return build_json(msgspec.json.encode(select_services(report, *service.groups(""))))
        if self._rendered_traffic is None or self._rendered_traffic[0] is not report:
            self._rendered_traffic = (report, msgspec.json.encode(report))
        return build_json(self._rendered_traffic[1])

    async def _get_explanation(self, request: Request) -> Response:
        if not self._published.is_ready:
            return build_text(HTTPStatus.SERVICE_UNAVAILABLE, NOT_READY, {"Retry-After": "1"})
        return await self._explanations.answer(request)

    async def _get_page(self, request: Request) -> Response:
        asked = PageRequest(query=read_query(request), fields=request.fields)
        return await answer_page(self._pages[read_path(request)], asked)

    async def _get_tap(self, request: Request) -> Response:
        """Answer with the traffic as it happens, until the client leaves."""
        if not self._published.is_ready:
            return build_text(HTTPStatus.SERVICE_UNAVAILABLE, NOT_READY, {"Retry-After": "1"})
        try:
            stream = self._taps.open(read_query(request), request.remote)
        except ValueError as error:
            return build_text(HTTPStatus.BAD_REQUEST, f"{error}\n")
        except TooManyTapsError:
            return build_text(HTTPStatus.SERVICE_UNAVAILABLE, "too many taps are open\n", {"Retry-After": "10"})
        return to_stream(stream, content_type="application/x-ndjson")

    async def _get_controller(self, _: Request) -> Response:
        return build_json(msgspec.json.encode(self._status.report()))

    async def _get_nodes(self, _: Request) -> Response:
        return build_json(msgspec.json.encode(self._nodes.list_reports()))

    async def _get_of_node(self, request: Request) -> Response:
        """Answer with the configuration that a proxy applies, or with its status, as the proxy reports it."""
        path = read_path(request)
        is_status = path.endswith(NODE_STATUS_SUFFIX)
        fetch = self._node_fetcher.fetch_status if is_status else self._node_fetcher.fetch_configuration
        name = path[len(NODE_PREFIX) : -len(NODE_STATUS_SUFFIX if is_status else NODE_SUFFIX)]
        address = self._nodes.find_admin(name)
        if address is None:
            return build_text(HTTPStatus.NOT_FOUND, "no proxy of this name pulled within the last hour\n")
        try:
            return build_json(await fetch(address))
        except NodeUnreachableError as error:
            return build_text(HTTPStatus.BAD_GATEWAY, f"{error}\n")

    async def _get_metrics(self, request: Request) -> Response:
        body, content_type = self._metrics.render(read_field(request.fields, b"accept"))
        headers = {"Cache-Control": "no-store"}
        return to_response(HTTPStatus.OK, body=body, content_type=content_type, headers=headers)

    async def _get_readiness(self, _: Request) -> Response:
        is_ready = self._published.is_ready and self._status.is_current and self._is_protected()
        status = HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE
        return build_json(msgspec.json.encode(is_ready), status)

    async def _get_liveness(self, _: Request) -> Response:
        return build_json(b"true")


def _find_tag(response: Response) -> str:
    return next((value.decode("latin-1") for name, value in response.fields if name == b"ETag"), "")
