"""The controller's own metrics, for Prometheus.

Takes the engine, its sources, the registry of proxies and the status; returns metric families at a scrape. Events and
builds are counted when they happen, and everything else is read at the scrape. docs/metrics.md lists the metrics.
"""

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal, Protocol

from maesh_core.controller.api.nodes import NodeRegistry
from maesh_core.controller.configuration.address_entries import AddressEntries
from maesh_core.controller.rebuilds.engine import Engine
from maesh_core.model.events import Applied, Deleted, Event, Problem, Replaced
from maesh_core.model.exposition import read_process_families, render_page
from maesh_core.model.messages import ControllerReport
from maesh_core.model.metrics import Histogram, MetricFamily
from maesh_core.model.resources import Resource, ResourceKind
from maesh_core.plugin_system.hookspecs import Source

BUILD_BOUNDS_S = (0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0)
"""From a change of one service to a first build of the largest clusters."""
OTHER = "other"
"""The label of what has no kind, such as a file that cannot be read."""

_EVENTS: Mapping[type, str] = {Applied: "applied", Deleted: "deleted", Replaced: "listed", Problem: "problem"}

Samples = Mapping[tuple[str, ...], float]


class Status(Protocol):
    """What is read of the controller's status."""

    @property
    def is_current(self) -> bool: ...  # noqa: D102

    def report(self) -> ControllerReport: ...  # noqa: D102


def build_family(
    type_: Literal["counter", "gauge"], name: str, text: str, samples: Samples, labels: tuple[str, ...] = ()
) -> MetricFamily:
    """Build a family of the controller; `samples` are keyed by the values of `labels`."""
    return MetricFamily(
        name=f"maesh_controller_{name}", type=type_, help=text, labels=labels, samples=tuple(sorted(samples.items()))
    )


class MetricsPage:
    """Renders the families of all sources, and the metrics of this process."""

    __slots__ = ("_sources",)

    def __init__(self, *sources: Callable[[], Sequence[MetricFamily]]) -> None:
        self._sources = [*sources, read_process_families]

    def __repr__(self) -> str:
        return f"<MetricsPage of {len(self._sources)} sources>"

    def add(self, source: Callable[[], Sequence[MetricFamily]]) -> None:
        """Add a source."""
        self._sources.append(source)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """Read every source, and return the page and its content type, in the format that `accept` asks for."""
        return render_page(self._sources, accept)


class BuildCounts:
    """Counts the events that were applied and the time that builds took. `note_revision` at each new revision."""

    __slots__ = ("_bounds", "_counts", "_events", "_names", "_revision_at_s", "_sum_s", "_wall_clock")

    def __init__(self, kinds: Sequence[ResourceKind], *, wall_clock: Callable[[], float] = time.time) -> None:
        self._names: Mapping[type[Resource], str] = {kind.type: kind.label for kind in kinds}
        self._events: Counter[tuple[str, ...]] = Counter()
        self._counts = [0] * (len(BUILD_BOUNDS_S) + 1)
        self._sum_s = 0.0
        self._wall_clock = wall_clock
        self._revision_at_s = 0.0

    def __repr__(self) -> str:
        return f"<BuildCounts {sum(self._counts)} batches>"

    @contextmanager
    def measure(self, events: Sequence[Event], *, source: str) -> Iterator[None]:
        """Count a batch that is applied in this context."""
        began_at = time.perf_counter()
        yield
        self.count(events, source=source, duration_s=time.perf_counter() - began_at)

    def count(self, events: Sequence[Event], *, source: str, duration_s: float) -> None:
        """Count a batch that was applied, and the time until its result was published."""
        for event in events:
            self._events[source, self._find_kind(event), _EVENTS[type(event)]] += 1
        self._counts[bisect_left(BUILD_BOUNDS_S, duration_s)] += 1
        self._sum_s += duration_s

    def note_revision(self) -> None:
        """Remember that there is a new revision."""
        self._revision_at_s = self._wall_clock()

    def collect(self) -> list[MetricFamily]:
        """Return the families."""
        histogram = Histogram(BUILD_BOUNDS_S, tuple(self._counts), self._sum_s)
        return [
            build_family("counter", "events_total", "Events of discovery.", self._events, ("source", "kind", "event")),
            MetricFamily(
                name="maesh_controller_build_duration_seconds",
                type="histogram",
                help="Time to apply a batch of events and to publish the result.",
                samples=(((), histogram),),
            ),
            build_family(
                "gauge", "revision_timestamp_seconds", "Time of the current revision.", {(): self._revision_at_s}
            ),
        ]

    def _find_kind(self, event: Event) -> str:
        if isinstance(event, Problem):
            return event.kind if event.kind in self._names.values() else OTHER
        type_ = type(event.resource) if isinstance(event, Applied) else event.type
        return self._names.get(type_, OTHER)


def collect_engine_metrics(
    engine: Engine, kinds: Sequence[ResourceKind], sources: Sequence[Source]
) -> list[MetricFamily]:
    """Return what the engine holds: objects, services, findings, lists and the revision."""
    objects: Samples = {(kind,): count for kind, count in engine.count_objects().items()}
    services, names = engine.list_services(), {kind.label for kind in kinds}
    findings: Counter[tuple[str, ...]] = Counter()
    for report in engine.reports.list_reports():
        kind = report.kind if report.kind in names else OTHER
        findings[kind, "error"] += len(report.errors)
        findings[kind, "notice"] += len(report.notices)
    return [
        *_count_addresses("pod_names", "names", engine.pod_names),
        *_count_addresses("client_namespaces", "namespaces", engine.client_namespaces),
        build_family("gauge", "objects", "Objects in the snapshot.", objects, ("kind",)),
        build_family("gauge", "services", "Services of the mesh.", {(): len(services)}),
        build_family("gauge", "findings", "Errors and notices, as in /api/objects.", findings, ("kind", "severity")),
        build_family("counter", "service_builds_total", "Builds of single services.", {(): engine.rebuilt_count}),
        build_family("gauge", "revision_info", "The current revision.", {(engine.revision,): 1}, ("revision",)),
        build_family(
            "gauge",
            "watch_synced",
            "Whether the list of a kind is complete and followed.",
            _list_watches(engine, kinds, sources),
            ("source", "kind"),
        ),
    ]


def _count_addresses(family: str, what: str, entries: AddressEntries | None) -> list[MetricFamily]:
    """Count the addresses of pods that proxies get, and those above the limit; nothing if no plugin asks for them."""
    if entries is None:
        return []
    counts: Samples = {("sent",): entries.sent_count, ("left_out",): entries.waiting_count}
    text = f"Addresses of pods whose {what} are sent to proxies, or left out because there are too many."
    return [build_family("gauge", family, text, counts, ("state",))]


def build_page(
    engine: Engine,
    kinds: Sequence[ResourceKind],
    sources: Sequence[Source],
    *,
    counts: BuildCounts,
    status: Status,
    nodes: NodeRegistry,
) -> MetricsPage:
    """Build the page with the metrics that every controller has."""
    return MetricsPage(
        counts.collect,
        lambda: collect_engine_metrics(engine, kinds, sources),
        lambda: collect_status_metrics(engine, status, nodes),
    )


def _list_watches(engine: Engine, kinds: Sequence[ResourceKind], sources: Sequence[Source]) -> Samples:
    missing = set(engine.missing_lists)
    found: dict[tuple[str, ...], int] = {}
    for source in sources:
        is_followed: Callable[[ResourceKind], bool] = getattr(source, "is_followed", lambda _: True)
        for kind in kinds:
            is_listed = f"{source.name} {kind.type.__name__}" not in missing
            found[source.name, kind.label] = int(is_listed and is_followed(kind))
    return found


def collect_status_metrics(engine: Engine, status: Status, nodes: NodeRegistry) -> list[MetricFamily]:
    """Return the state of this controller and of the proxies that pull from it."""
    report = status.report()
    states = Counter("ready" if each.ready else "not_ready" for each in nodes.list_reports())
    proxies: Samples = {(state,): states[state] for state in ("ready", "not_ready")}
    return [
        build_family("gauge", "ready", "Whether this controller answers pulls.", {(): int(report.ready)}),
        build_family("gauge", "leader", "Whether this controller leads.", {(): int(report.leads)}),
        build_family("gauge", "current", "Whether the view of the cluster is recent.", {(): int(status.is_current)}),
        build_family("gauge", "problems", "What could not be read.", {(): len(engine.problems)}),
        build_family("gauge", "proxies", "Proxies that pulled within an hour.", proxies, ("state",)),
        build_family("counter", "refused_facts_total", "Refused facts of proxies.", {(): nodes.refused_facts}),
    ]
