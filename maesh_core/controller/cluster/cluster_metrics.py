"""The metrics of a controller's part in a cluster: its contact with it, and what the leader writes.

Takes the parts of a Cluster and returns metric families. A controller that never led has counts of zero.
"""

from maesh_core.controller.cluster.leader_writes import LeaderWrites
from maesh_core.controller.metrics import Samples, build_family
from maesh_core.model.metrics import MetricFamily


def collect_cluster_metrics(out_of_touch_s: float, leader_writes: LeaderWrites | None) -> list[MetricFamily]:
    """Return the families; before the first build there are no keepers yet."""
    shadows, dns, statuses = (
        (leader_writes.shadows, leader_writes.dns, leader_writes.statuses) if leader_writes else (None, None, None)
    )
    writes: Samples = dict(shadows.writes) if shadows else {}
    status_writes: Samples = dict(statuses.writes) if statuses else {}
    return [
        build_family("gauge", "out_of_touch_seconds", "Time without contact to the cluster.", {(): out_of_touch_s}),
        build_family(
            "counter",
            "shadow_service_writes_total",
            "Writes of shadow services.",
            writes,
            ("operation", "result"),
        ),
        build_family(
            "gauge",
            "shadow_service_errors",
            "Services whose shadow service cannot be written.",
            {(): shadows.failing if shadows else 0},
        ),
        build_family(
            "counter",
            "status_writes_total",
            "Writes of objects' statuses.",
            status_writes,
            ("result",),
        ),
        build_family(
            "gauge",
            "status_errors",
            "Objects whose status cannot be written.",
            {(): statuses.failing if statuses else 0},
        ),
        build_family("counter", "dns_repairs_total", "Repairs of the cluster's DNS.", {(): dns.repairs if dns else 0}),
        build_family(
            "gauge",
            "dns_failing",
            "Whether the cluster's DNS is not as desired.",
            {(): int(dns is not None and dns.is_failing)},
        ),
    ]
