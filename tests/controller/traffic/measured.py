"""A small mesh, counters of proxies, and reports of both."""

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, TypeVar

from maesh_core.controller.resources.kinds import CORE_KINDS
from maesh_core.controller.resources.snapshot import Snapshot
from maesh_core.controller.traffic.report import DescribedService, ReportBuilder, build_scope
from maesh_core.controller.traffic.sums import TrafficSums
from maesh_core.controller.traffic.wanted_metrics import GAUGES, HISTOGRAMS
from maesh_core.model.events import Replaced
from maesh_core.model.keys import ObjectKey
from maesh_core.model.matches import HttpMatch
from maesh_core.model.metrics import Histogram, MetricFamily
from maesh_core.model.resources import ObjectMeta, OwnerReference, Pod, PodSpec, PodStatus
from maesh_core.model.topology import BackendNode, BranchNode, PortNode, ServerNode, ServiceNode
from maesh_core.model.traffic import ProxyTraffic, ServiceTraffic

ResultT = TypeVar("ResultT")
BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.3, 1.2, 5.0)
WEB, DB = "shop/web:80", "shop/db:5432"


def build_pod(name: str, address: str, **more: Any) -> Pod:
    labels, owner = more.pop("labels", {}), more.pop("owner", None)
    return Pod(
        metadata=ObjectMeta(
            name=name,
            namespace=more.pop("namespace", "shop"),
            labels=labels,
            owner_references=(OwnerReference(kind=owner[0], name=owner[1]),) if owner else (),
        ),
        spec=PodSpec(**more),
        status=PodStatus(pod_ip=address),
    )


def build_snapshot(*pods: Pod) -> Snapshot:
    snapshot = Snapshot(CORE_KINDS)
    snapshot.apply([Replaced(Pod, pods)], source="test")
    return snapshot


def build_service(name: str, number: int, *servers: ServerNode, type_: str = "http", **more: Any) -> DescribedService:
    port = PortNode(number=number, servers=servers, **more)
    return DescribedService(ServiceNode(key=ObjectKey("shop", name), traffic_type=type_, ports=(port,)))


def build_split(*weights: tuple[str, int], matches: tuple[HttpMatch, ...] = ()) -> BranchNode:
    backends = tuple(
        BackendNode(service=ObjectKey("shop", name), weight=weight, port=PortNode(number=80))
        for name, weight in weights
    )
    return BranchNode(name="split/canary", matches=matches, backends=backends)


SERVICES = (
    build_service("db", 5432, type_="tcp"),
    build_service("dns", 53, type_="udp"),
    build_service("web", 80, ServerNode(address="10.0.0.1", port=8080, pod=ObjectKey("shop", "web-0"))),
)


def count(name: str, samples: Mapping[Any, Any], *labels: str) -> MetricFamily:
    """Build a family of a proxy; without labels, it has the only one `service`."""
    type_: Any = "gauge" if name in GAUGES else "histogram" if name in HISTOGRAMS else "counter"
    return MetricFamily(name=name, type=type_, help="", labels=labels or ("service",), samples=list(samples.items()))


def observe(*seconds: float) -> Histogram:
    counts = [0] * (len(BOUNDS) + 1)
    for each in seconds:
        counts[next((index for index, bound in enumerate(BOUNDS) if each <= bound), len(BOUNDS))] += 1
    return Histogram(BOUNDS, counts, sum(seconds))


def measure(
    *proxies: ProxyTraffic, services: Sequence[DescribedService] = SERVICES, snapshot: Snapshot | None = None
) -> Callable[[str], ServiceTraffic]:
    """Report on what these proxies counted; return a function that finds a service port in the report."""
    sums = TrafficSums(work_at_once(build_scope(services)))
    for proxy in proxies:
        work_at_once(sums.add(proxy))
    builder = ReportBuilder(sums, snapshot or build_snapshot())
    found = {each.key: each for each in work_at_once(builder.build_services(services))}
    return found.__getitem__


def since_start(*families: MetricFamily, uptime_s: float = 30.0) -> ProxyTraffic:
    """Return the traffic of a proxy that started half a minute ago."""
    return ProxyTraffic(interval_s=uptime_s, uptime_s=uptime_s, now=families)


def work_at_once(steps: Generator[None, None, ResultT]) -> ResultT:
    """Do the work without a pause."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: ResultT = end.value
            return result
