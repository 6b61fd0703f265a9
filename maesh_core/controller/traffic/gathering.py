"""Gathers the traffic of the mesh for `/api/traffic`, from all proxies or from Prometheus.

Takes a source of sums and the services of the mesh; returns reports. A report is made at most once a second, however
many clients ask, and a client that leaves does not end the work that others wait for. The work pauses regularly, so
that pulls are answered meanwhile.
"""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Protocol

import msgspec

from maesh_core.controller.recent_result import RecentResult
from maesh_core.controller.traffic.callers import Objects
from maesh_core.controller.traffic.report import DescribedService, ReportBuilder, build_scope
from maesh_core.controller.traffic.sums import TrafficSums
from maesh_core.controller.traffic.wanted_metrics import Scope
from maesh_core.controller.turns import work_in_turns
from maesh_core.model.topology import ServiceNode
from maesh_core.model.traffic import MissingController, NodeTraffic, TrafficReport


class Measurement(msgspec.Struct, frozen=True):
    """What a source returns: the sums, the proxies that they are of, and the controllers that did not name theirs."""

    sums: TrafficSums
    nodes: tuple[NodeTraffic, ...]
    missing: tuple[MissingController, ...] = ()


class TrafficSource(Protocol):
    """Where the sums come from."""

    async def measure(self, scope: Scope) -> Measurement:
        """Return the current sums; raises TrafficUnavailableError."""

    async def close(self) -> None:
        """Close its connections."""


class Mesh(Protocol):
    """The services of the mesh, with their errors and notices, and the cluster's objects: the engine."""

    @property
    def objects(self) -> Objects: ...  # noqa: D102

    def list_described(self) -> Sequence[tuple[ServiceNode, tuple[str, ...], tuple[str, ...]]]: ...  # noqa: D102


class TrafficGatherer:
    """Makes reports on request. Close it when done."""

    __slots__ = ("_mesh", "_reports", "_source", "_wall_clock")

    def __init__(
        self,
        mesh: Mesh,
        source: TrafficSource,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._mesh = mesh
        self._source = source
        self._wall_clock = wall_clock
        self._reports = RecentResult(self._build, clock=clock)

    def __repr__(self) -> str:
        return f"<TrafficGatherer of {self._source!r}>"

    async def report(self) -> TrafficReport:
        """Return a report that is at most a second old; raises TrafficUnavailableError."""
        return await self._reports.get()

    async def close(self) -> None:
        """End the work, if there is any, and close the source."""
        await self._reports.close()
        await self._source.close()

    async def _build(self) -> TrafficReport:
        described = [DescribedService(*each) for each in self._mesh.list_described()]
        measured = await self._source.measure(await work_in_turns(build_scope(described)))
        builder = ReportBuilder(measured.sums, self._mesh.objects)
        services = await work_in_turns(builder.build_services(described))
        at = datetime.fromtimestamp(self._wall_clock(), UTC).isoformat(timespec="milliseconds")
        return TrafficReport(
            at=at.replace("+00:00", "Z"),
            interval_s=measured.sums.last.seconds,
            nodes=measured.nodes,
            missing=measured.missing,
            services=services,
            refused=builder.list_refused(),
            tunnels=builder.build_tunnels(),
        )


def select_services(report: TrafficReport, namespace: str, name: str, port: str = "") -> TrafficReport:
    """Return the report with the ports of one service only, or with one port."""
    services = tuple(
        each for each in report.services if (each.namespace, each.name) == (namespace, name) and port in ("", each.port)
    )
    return msgspec.structs.replace(report, services=services)
