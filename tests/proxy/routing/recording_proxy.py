"""The routing of a proxy with handlers that record their tables, and a middleware that records its settings."""

from collections.abc import Callable, Mapping
from typing import Any, cast

import msgspec

from maesh_core.model.configuration import HttpRouter, Middleware, Section, Server, Service, StreamRouter
from maesh_core.model.messages import Update
from maesh_core.plugin_system.middleware import Middleware as BuiltMiddleware
from maesh_core.proxy.balancing.kinds import BalancerKinds
from maesh_core.proxy.routing.configuration import RoutingConfiguration
from maesh_core.proxy.routing.current_pod_names import CurrentPodNames
from maesh_core.proxy.routing.wanted_entrypoint import WantedEntrypoint


class RecordingHandler:
    """A protocol's handler whose tables are what it was given."""

    def __init__(self, name: str, transport: str, router_type: type[Any]) -> None:
        self.name = name
        self.transport = transport
        self.router_type = router_type
        self.compiled: list[tuple[Section, dict[str, Any], frozenset[str] | None]] = []
        self.tables: list[Section] = []
        self.error: Exception | None = None

    def compile_table(self, section: Section, *, middlewares: Any, changed: frozenset[str] | None) -> Section:
        if self.error is not None:
            raise self.error
        self.compiled.append((section, dict(middlewares), changed))
        return section

    def apply_table(self, table: Section) -> None:
        self.tables.append(table)


class StampSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    value: int = 0


class Stamp(BuiltMiddleware):
    """A middleware for requests and for connections."""

    def on_request(self, exchange: Any) -> None:
        pass

    def on_connect(self, connection: Any) -> None:
        pass


class StampFactory:
    """Builds a fresh object each time; raises for value 13."""

    kind = "stamp"
    settings_type = StampSettings

    def __init__(self) -> None:
        self.built: list[tuple[int, str]] = []

    def build_middleware(self, settings: StampSettings, service: str) -> BuiltMiddleware:
        if settings.value == 13:
            raise RuntimeError("unlucky")
        self.built.append((settings.value, service))
        return Stamp()


class FakeNode(msgspec.Struct, frozen=True):
    """How the transport of a test describes a node."""

    addresses: tuple[str, ...]


class FakeTransport:
    """A transport that records what is applied."""

    node_type = FakeNode

    def __init__(self) -> None:
        self.applied: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self.error: Exception | None = None
        self.on_apply: Callable[[], None] = lambda: None

    def apply_nodes(self, nodes: Mapping[str, Any], clients: Mapping[str, Any]) -> None:
        if self.error is not None:
            raise self.error
        self.on_apply()
        self.applied.append((dict(nodes), dict(clients)))


class Proxy:
    """A routing configuration with http and tcp, and the middleware kind `stamp`."""

    def __init__(
        self,
        guards: tuple[str, ...] = (),
        transport: FakeTransport | None = None,
        own_entrypoints: frozenset[WantedEntrypoint] = frozenset(),
        encryption: str | None = None,
        pod_names: CurrentPodNames | None = None,
    ) -> None:
        self.http = RecordingHandler("http", "TCP", HttpRouter)
        self.tcp = RecordingHandler("tcp", "TCP", StreamRouter)
        self.factory = StampFactory()
        self.applied = 0
        self._handlers = cast("Any", {"http": self.http, "tcp": self.tcp})
        self.configuration = RoutingConfiguration(
            self._handlers,
            {"stamp": self.factory},
            guards=guards,
            balancers=BalancerKinds(),
            transport=transport,
            encryption=encryption,
            own_entrypoints=own_entrypoints,
            pod_names=pod_names,
        )

    def add_handler(self, name: str, transport: str) -> None:
        """Add a protocol of a plugin."""
        self._handlers[name] = RecordingHandler(name, transport, StreamRouter)

    def apply(self, *, full: bool = False, since: str | None = None, **fields: Any) -> None:
        fields.setdefault("revision", f"e.{self.applied + 1}")
        update = Update(full=full, **fields)
        self.configuration.apply_update(update, since=None if full else since or self.configuration.revision)
        self.applied += 1

    @property
    def table(self) -> Section:
        return self.http.tables[-1]


def router(service: str | None = "s", **fields: Any) -> HttpRouter:
    return HttpRouter(entrypoint=fields.pop("entrypoint", 5000), hosts=("a.b.maesh",), service=service, **fields)


def service(*ports: int) -> Service:
    return Service(servers=tuple(Server(address="10.0.0.1", port=port) for port in ports or (80,)))


def stamp(value: Any) -> Middleware:
    return Middleware(kind="stamp", settings={"value": value})


BASE = Section(
    routers={"r": router(middlewares=("n/s/stamp",))}, services={"s": service()}, middlewares={"n/s/stamp": stamp(1)}
)
