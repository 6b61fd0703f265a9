"""Gathers the traffic of the mesh for `/api/traffic`, from all proxies or from Prometheus.

Takes a source of sums and the services of the mesh; returns reports. A report is made at most once a second, however
many clients ask, and a client that leaves does not end the work that others wait for. The work pauses regularly, so
that pulls are answered meanwhile.
"""

import asyncio
import time
from collections.abc import Callable, Generator, Sequence
from datetime import UTC, datetime
from typing import Protocol

import msgspec

from maesh_core.controller.traffic.callers import Objects
from maesh_core.controller.traffic.report import DescribedService, ReportBuilder, build_scope
from maesh_core.controller.traffic.sums import TrafficSums
from maesh_core.controller.traffic.turns import work_in_turns
from maesh_core.controller.traffic.wanted_metrics import Scope
from maesh_core.model.topology import ServiceNode
from maesh_core.model.traffic import NodeTraffic, ServiceTraffic, TrafficReport

FRESH_S = 1.0
"""How long a report is used; longer if it took longer, so that reports take at most half of the time."""
BATCH = 50
"""Services that are reported without a pause, which takes a few milliseconds."""


class Measurement(msgspec.Struct, frozen=True):
    """What a source returns: the sums, and the proxies that they are of."""

    sums: TrafficSums
    nodes: tuple[NodeTraffic, ...]


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

    __slots__ = ("_clock", "_fresh_until_s", "_mesh", "_source", "_task", "_wall_clock")

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
        self._clock = clock
        self._wall_clock = wall_clock
        self._task: asyncio.Task[TrafficReport] | None = None
        self._fresh_until_s = 0.0

    def __repr__(self) -> str:
        return f"<TrafficGatherer of {self._source!r}>"

    async def report(self) -> TrafficReport:
        """Return a report that is at most a second old; raises TrafficUnavailableError."""
        task = self._task
        if task is None or (task.done() and self._clock() >= self._fresh_until_s):
            task = self._task = asyncio.create_task(self._gather())
        return await asyncio.shield(task)

    async def close(self) -> None:
        """End the work, if there is any, and close the source."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self._source.close()

    async def _gather(self) -> TrafficReport:
        started_s = self._clock()
        try:
            return await self._build()
        finally:
            now_s = self._clock()
            self._fresh_until_s = now_s + max(FRESH_S, now_s - started_s)

    async def _build(self) -> TrafficReport:
        described = [DescribedService(*each) for each in self._mesh.list_described()]
        measured = await self._source.measure(build_scope(described))
        builder = ReportBuilder(measured.sums, self._mesh.objects)
        services = await work_in_turns(_build_services(builder, described))
        at = datetime.fromtimestamp(self._wall_clock(), UTC).isoformat(timespec="milliseconds")
        return TrafficReport(
            at=at.replace("+00:00", "Z"),
            interval_s=measured.sums.last.seconds,
            nodes=measured.nodes,
            services=tuple(services),
            refused=builder.list_refused(),
        )


def _build_services(
    builder: ReportBuilder, described: Sequence[DescribedService]
) -> Generator[None, None, list[ServiceTraffic]]:
    services: list[ServiceTraffic] = []
    for service in builder.build_services(described):
        services.append(service)
        if len(services) % BATCH == 0:
            yield
    return services


def select_services(report: TrafficReport, namespace: str, name: str, port: str = "") -> TrafficReport:
    """Return the report with the ports of one service only, or with one port."""
    services = tuple(
        each for each in report.services if (each.namespace, each.name) == (namespace, name) and port in ("", each.port)
    )
    return msgspec.structs.replace(report, services=services)
