"""The metrics that dashboards and alerts may query, with their labels, as the documentation lists them.

Reads the tables of docs/metrics.md, docs/tcp-services.md and docs/udp-services.md, which other tests compare with what
a proxy and a controller serve.
"""

import re
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
ROW = re.compile(r"^\| (`[a-z_]+`(?:, `[a-z_]+`)*) \| (?:([^|]*)\| )?([^|]*) \|$", re.MULTILINE)
STREAMS = ("tcp-services.md", "udp-services.md")
TARGET_LABELS = frozenset({"instance", "job", "namespace", "pod"})
"""Labels that Prometheus itself adds."""

AWAITED = {
    "maesh_service_requests_total": {"service", "protocol", "code"},
    "maesh_service_upstream_duration_seconds": {"service", "le"},
    "maesh_service_attempts_total": {"service"},
    "maesh_service_request_bytes_total": {"service"},
    "maesh_service_response_bytes_total": {"service"},
    "maesh_service_answers_total": {"service", "code", "reason"},
    "maesh_branch_requests_total": {"service", "destination", "code"},
    "maesh_server_attempts_total": {"server", "outcome"},
    "maesh_entrypoint_requests_total": {"entrypoint"},
    "maesh_edge_requests_total": {"client", "service"},
    "maesh_edge_failures_total": {"client", "service"},
    "maesh_edge_connections_total": {"client", "service"},
    "maesh_worker_memory_bytes": {"worker"},
    "maesh_worker_open_descriptors": {"worker"},
    "maesh_circuitbreaker_open": {"service"},
    "maesh_service_cut_responses_total": {"service", "reason"},
    **{
        f"maesh_controller_{name}": set()
        for name in (
            *("ready", "leader", "current", "problems", "services", "revision_timestamp_seconds", "held_pulls"),
            *("service_builds_total", "dns_repairs_total", "dns_failing", "shadow_service_errors"),
            "out_of_touch_seconds",
        )
    },
    "maesh_controller_build_duration_seconds": {"le"},
    "maesh_controller_objects": {"kind"},
    "maesh_controller_findings": {"kind", "severity"},
    "maesh_controller_events_total": {"source", "kind", "event"},
    "maesh_controller_watch_synced": {"source", "kind"},
    "maesh_controller_proxies": {"state"},
    "maesh_controller_pulls_total": {"result"},
    "maesh_controller_api_requests_total": {"path", "code"},
    "maesh_controller_shadow_service_writes_total": {"operation", "result"},
}
"""Metrics, or labels of them, that the pages do not have yet. A test fails as soon as they do."""


def read_pages():
    """Read the labels of each metric of the pages; a histogram has `le`."""
    rows = ROW.findall((DOCS / "metrics.md").read_text())
    for page in STREAMS:
        found = ROW.findall((DOCS / page).read_text())
        rows += [(name, "" if "without label" in text else find_label(text), text) for name, _, text in found]
    return {
        name: set(re.findall(r"`(\w+)`", re.sub(r": [^;|]*", "", labels))) | ({"le"} if "histogram" in text else set())
        for names, labels, text in rows
        for name in re.findall(r"`([a-z_]+)`", names)
    }


def find_label(text):
    """Find the label of a metric of TCP or UDP: the text names it if it is not the service."""
    instead = re.search(r"instead of `service` it has the label (`\w+`)", text)
    return instead[1] if instead else "`service`"


def read_known_metrics():
    """Read the labels by the names of samples, so a histogram has three, and of awaited metrics."""
    pages = read_pages()
    known = {}
    for name in (*pages, *AWAITED):
        labels = pages.get(name, set()) | AWAITED.get(name, set()) | TARGET_LABELS
        if "le" in labels:
            known |= {f"{name}_bucket": labels, f"{name}_sum": labels - {"le"}, f"{name}_count": labels - {"le"}}
        else:
            known[name] = labels
    return known
