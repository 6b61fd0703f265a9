"""The hooks for what observes traffic, and the interfaces of observers."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

from maesh_core.model.metrics import MetricFamily
from maesh_core.model.optional_sections import CLIENTS, PODS
from maesh_core.model.traffic_record import TrafficRecord
from maesh_core.plugin_system.hookspecs.markers import hookspec
from maesh_core.plugin_system.node import Node

# --- observation -----------------------------------------------------------------------------------------------------


class TrafficObserver(Protocol):
    """Receives a record of all traffic that has ended.

    It may be a `ConfiguredObserver`, a `CountingObserver` and a `ClosingObserver`.
    """

    name: str

    def observe(self, record: TrafficRecord) -> None:
        """Called once for each request, tunnel, TCP connection, UDP session and refusal, when it has ended.

        It runs in the worker's event loop, before the next request, so it must return within microseconds: keep the
        record, and write it elsewhere. An exception is counted, and logged once; traffic continues. Records are created
        only if there is an observer.
        """


class ConfiguredObserver(TrafficObserver, Protocol):
    """An observer that services can configure, through a `MiddlewareBuilder` of stage `OBSERVE` with the same kind."""

    kind: str
    settings_type: type[Any]
    """The type as which settings are decoded; a service whose settings cannot be decoded is left out, and logged."""

    def apply_settings(self, settings: Mapping[str, Any]) -> None:
        """Use these settings from now on: those of all services that have any, by `namespace/name`.

        Settings that annotations of a port define for it alone are under `namespace/name:port` instead.

        Called when a configuration has changed them; other services have none. If it raises, that is logged.
        """


class CountingObserver(TrafficObserver, Protocol):
    """An observer that has metrics."""

    def collect_metrics(self) -> Sequence[MetricFamily]:
        """Return the metrics; called at each scrape."""


class ClosingObserver(TrafficObserver, Protocol):
    """An observer that has to finish its work."""

    def close(self) -> None:
        """Finish: no further record follows, and the worker ends. It must return within a second."""


class OptionalSection(msgspec.Struct, frozen=True):
    """A part of the configuration that the controller builds and sends only if a plugin asks for it.

    `POD_NAMES` has the names of pods by address, which `Node.follow_pod_names` returns in proxies. `ACCOUNTS` has their
    service accounts, which the source `account` of `Node.build_source_reader` reads. `CLIENT_NAMESPACES` has the
    namespaces of clients by address, by which proxies route requests whose Host is a name without a dot.
    """

    name: str
    """Its name in messages."""


POD_NAMES: Final = OptionalSection(PODS)

ACCOUNTS: Final = OptionalSection("accounts")
"""The clients of the section `transport`, for all pods, as with `--client-header`."""

CLIENT_NAMESPACES: Final = OptionalSection(CLIENTS)
"""The section `clients`, for the pods of all namespaces that have HTTP Services."""

OPTIONAL_SECTIONS: Sequence[OptionalSection] = (POD_NAMES, ACCOUNTS, CLIENT_NAMESPACES)
"""The sections that a plugin can ask for."""


class ObservationSpecs(Protocol):
    """Hooks for what observes traffic, such as logs."""

    @hookspec
    def maesh_optional_sections(self) -> Sequence[OptionalSection]:
        """Return sections that the plugin's proxy half reads. Controller; once, at start; raising stops the start."""

    @hookspec
    def maesh_traffic_observers(self, node: Node) -> Sequence[TrafficObserver]:
        """Return observers of traffic. Proxy; once, at start, in its event loop; raising stops the start."""
