"""Builds the parts that answer the requests of a controller's API, serves them, and closes them in order.

Takes the settings, the engine, and what is known of this controller; the API listens from `start` to `close`. Raises
StartupError if a setting is wrong or the port cannot be used.
"""

import socket
from collections.abc import Mapping
from http import HTTPStatus

from maesh_core.controller.api.browser_guard import BrowserGuard
from maesh_core.controller.api.clients import choose_connection_limit
from maesh_core.controller.api.explanations import Explanations
from maesh_core.controller.api.handlers import Api
from maesh_core.controller.api.node_client import NodeClient
from maesh_core.controller.api.nodes import NodeRegistry
from maesh_core.controller.api.paths import PROBE_PATHS
from maesh_core.controller.api.peer_client import PeerClient
from maesh_core.controller.api.protection import Protection
from maesh_core.controller.api.queries import read_path
from maesh_core.controller.api.server import STOP_S, build_text, open_socket, start_server
from maesh_core.controller.api.tap_client import HttpTapClient, choose_stream_limit
from maesh_core.controller.controller_status import ControllerStatus
from maesh_core.controller.engine import Engine
from maesh_core.controller.mesh_proxies.finder import ProxyFinder
from maesh_core.controller.mesh_proxies.mesh_pods import MeshPods
from maesh_core.controller.metrics import MetricsPage
from maesh_core.controller.proxy_reports import ReportGatherer
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

    __slots__ = (
        "_explanations",
        "_node_client",
        "_protection",
        "_report_client",
        "_server",
        "_taps",
        "_traffic",
        "api",
        "finder",
        "is_open",
        "reports",
    )

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
        open_files = find_open_files_limit()
        mesh_pods = MeshPods(engine.objects, namespace=settings.namespace, own_name=socket.gethostname())
        self.finder = ProxyFinder(nodes, PeerClient(protection.secure_peer), mesh_pods if is_cluster else None)
        self._node_client = NodeClient(secure=protection.secure_node)
        self._traffic = TrafficGatherer(engine, _build_traffic_source(self.finder, prometheus, protection))
        self._report_client = NodeClient(timeout_s=TIMEOUT_S, connections=CONCURRENCY, secure=protection.secure_node)
        self.reports = ReportGatherer(self.finder, self._report_client)
        tap_client = HttpTapClient(connections_limit=choose_stream_limit(open_files), secure=protection.secure_node)
        self._taps = MeshTaps(self.finder, tap_client, engine)
        self._explanations = Explanations(engine)
        self._protection = protection
        self._server: HttpServer | None = None
        self.is_open = False
        guard = BrowserGuard(settings.api_hosts, namespace=settings.namespace, cluster_domain=settings.cluster_domain)
        self.api = Api(
            engine,
            nodes,
            self._node_client,
            status=status,
            traffic=self._traffic,
            taps=self._taps,
            explanations=self._explanations,
            metrics=metrics,
            guard=guard,
            pages=pages,
            authentication=protection.authentication,
            is_protected=lambda: protection.is_ready,
        )
        metrics.add(self.api.collect_metrics)
        if protection.authentication is not None:
            metrics.add(protection.authentication.collect_metrics)
        for page in pages.values():
            if collect := getattr(page, "collect_metrics", None):
                metrics.add(collect)

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
        port: int = sock.getsockname()[1]
        return port

    async def _answer(self, request: Request) -> Response:
        if self.is_open or read_path(request) in PROBE_PATHS:
            return await self.api.handle(request)
        return build_text(HTTPStatus.SERVICE_UNAVAILABLE, "the controller starts\n", {"Retry-After": "1"})

    async def close(self) -> None:
        """End all answers, and close all connections."""
        self.api.close()
        if self._server is not None:
            await self._server.close(grace_s=STOP_S)
        await self._node_client.close()
        await self._report_client.close()
        await self._traffic.close()
        await self._taps.close()
        await self.finder.close()
        self._explanations.close()


def _build_traffic_source(
    finder: ProxyFinder, prometheus: HttpPrometheusClient | None, protection: Protection
) -> TrafficSource:
    if prometheus is not None:
        return PrometheusSource(prometheus, finder)
    client = NodeClient(
        timeout_s=TIMEOUT_S, limit_bytes=LIMIT_BYTES, connections=CONCURRENCY, secure=protection.secure_node
    )
    return ProxySource(finder, client)
