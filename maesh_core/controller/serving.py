"""Builds the parts that answer the requests of a controller's API, serves them, and closes them in order.

Takes the settings, the engine, and what is known of this controller; the API listens from `start` to `close`. Raises
StartupError if a setting is wrong or the port cannot be used.
"""

import socket
from collections.abc import Mapping
from contextlib import AsyncExitStack
from http import HTTPStatus

from maesh_core.controller.api.clients import choose_connection_limit
from maesh_core.controller.api.explanations import Explanations
from maesh_core.controller.api.handlers import Api
from maesh_core.controller.api.nodes import NodeRegistry
from maesh_core.controller.api.outgoing.node_client import NodeClient
from maesh_core.controller.api.outgoing.peer_client import PeerClient
from maesh_core.controller.api.outgoing.tap_client import HttpTapClient, choose_stream_limit
from maesh_core.controller.api.paths import PROBE_PATHS
from maesh_core.controller.api.queries import read_path
from maesh_core.controller.api.security.browser_guard import BrowserGuard
from maesh_core.controller.api.security.protection import Protection
from maesh_core.controller.api.server import STOP_S, build_text, open_socket, start_server
from maesh_core.controller.controller_status import ControllerStatus
from maesh_core.controller.mesh_proxies.finder import ProxyFinder
from maesh_core.controller.mesh_proxies.mesh_pods import MeshPods
from maesh_core.controller.mesh_proxies.plugin_reports import ReportGatherer
from maesh_core.controller.metrics import MetricsPage
from maesh_core.controller.rebuilds.engine import Engine
from maesh_core.controller.tap.mesh_tap import MeshTaps
from maesh_core.controller.traffic.gathering import TrafficGatherer, TrafficSource
from maesh_core.controller.traffic.prometheus import PrometheusSource
from maesh_core.controller.traffic.prometheus_client import HttpPrometheusClient
from maesh_core.controller.traffic.proxies import CONCURRENCY, LIMIT_BYTES, TIMEOUT_S, ProxySource
from maesh_core.plain_http.messages import Request, Response
from maesh_core.plain_http.server import HttpServer
from maesh_core.plugin_system.pages import ApiPage
from maesh_core.process.open_files import find_open_files_limit
from maesh_core.settings import ControllerSettings


class ApiService:
    """The API of a controller, with its clients of proxies and of other controllers.

    `prometheus` measures the traffic in place of the proxies. Only a controller in a cluster has peers to find. Until
    `is_open` is set, only probes are answered.
    """

    __slots__ = ("_protection", "_server", "_stack", "api", "finder", "is_open", "reports")

    def __init__(
        self,
        settings: ControllerSettings,
        engine: Engine,
        nodes: NodeRegistry,
        *,
        status: ControllerStatus,
        metrics: MetricsPage,
        pages: Mapping[str, ApiPage],
        protection: Protection,
        prometheus: HttpPrometheusClient | None,
        is_cluster: bool,
    ) -> None:
        self._protection = protection
        self._server: HttpServer | None = None
        self._stack = stack = AsyncExitStack()
        self.is_open = False
        mesh_pods = MeshPods(engine.objects, namespace=settings.namespace, own_name=socket.gethostname())
        explanations = Explanations(engine)
        stack.callback(explanations.close)
        self.finder = ProxyFinder(nodes, PeerClient(protection.secure_peer), mesh_pods if is_cluster else None)
        stack.push_async_callback(self.finder.close)
        streams_limit = choose_stream_limit(find_open_files_limit())
        tap_client = HttpTapClient(connections_limit=streams_limit, secure=protection.secure_node)
        taps = MeshTaps(self.finder, tap_client, engine)
        stack.push_async_callback(taps.close)
        traffic = TrafficGatherer(engine, _build_traffic_source(self.finder, prometheus, protection))
        stack.push_async_callback(traffic.close)
        report_client = NodeClient(timeout_s=TIMEOUT_S, connections=CONCURRENCY, secure=protection.secure_node)
        stack.push_async_callback(report_client.close)
        self.reports = ReportGatherer(self.finder, report_client)
        node_client = NodeClient(secure=protection.secure_node)
        stack.push_async_callback(node_client.close)
        self.api = Api(
            engine,
            nodes,
            node_client,
            status=status,
            traffic=traffic,
            taps=taps,
            explanations=explanations,
            metrics=metrics,
            guard=BrowserGuard(
                settings.api_hosts, namespace=settings.namespace, cluster_domain=settings.cluster_domain
            ),
            pages=pages,
            authentication=protection.authentication,
            is_protected=lambda: protection.is_ready,
        )
        _add_metrics(metrics, self.api, protection.authentication, *pages.values())

    def __repr__(self) -> str:
        return f"<ApiService {self._server!r}>"

    async def start(self, settings: ControllerSettings) -> int:
        """Listen, and return the port. Raises StartupError."""
        sock = open_socket(settings.api_host, settings.api_port, flag="--api-port")
        try:
            self._server = await start_server(
                self._answer,
                sock,
                connection_limit=choose_connection_limit(find_open_files_limit()),
                body_limits=self.api.body_limits,
                protect=self._protection.apply_to,
            )
        except BaseException:  # also when cancelled
            sock.close()
            raise
        self._stack.push_async_callback(self._server.close, grace_s=STOP_S)
        port: int = sock.getsockname()[1]
        return port

    async def _answer(self, request: Request) -> Response:
        if self.is_open or read_path(request) in PROBE_PATHS:
            return await self.api.handle(request)
        return build_text(HTTPStatus.SERVICE_UNAVAILABLE, "the controller starts\n", {"Retry-After": "1"})

    async def close(self) -> None:
        """End all answers, and close all connections."""
        self.api.close()
        await self._stack.aclose()


def _add_metrics(metrics: MetricsPage, *parts: object) -> None:
    """Add the metrics of these parts that have some."""
    for part in parts:
        if collect := getattr(part, "collect_metrics", None):
            metrics.add(collect)


def _build_traffic_source(
    finder: ProxyFinder, prometheus: HttpPrometheusClient | None, protection: Protection
) -> TrafficSource:
    if prometheus is not None:
        return PrometheusSource(prometheus, finder)
    client = NodeClient(
        timeout_s=TIMEOUT_S, limit_bytes=LIMIT_BYTES, connections=CONCURRENCY, secure=protection.secure_node
    )
    return ProxySource(finder, client)
