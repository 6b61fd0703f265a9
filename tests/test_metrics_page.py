"""docs/metrics.md names every metric of a proxy and of a controller, with its labels, and none that there is not."""

import re
from pathlib import Path

import pytest

from maesh_core.controller.cluster.cluster_metrics import collect_cluster_metrics
from maesh_core.model.exposition import render_families
from maesh_core.proxy.workers.counters import ORPHAN_LIMIT
from maesh_testing.http_client import send_request

DOCS = Path(__file__).resolve().parents[1] / "docs"
ROW = re.compile(r"^\| (`[a-z_]+`(?:, `[a-z_]+`)*) \| ([^|]*)\|", re.MULTILINE)
ELSEWHERE = ("maesh_tcp_", "maesh_udp_", "maesh_tunnel")
CONTROLLER = "maesh_controller_"

pytestmark = pytest.mark.integration


def read_page():
    """Return the labels of each metric that the page has a row for."""
    rows = {}
    for names, labels in ROW.findall((DOCS / "metrics.md").read_text()):
        bare = re.sub(r":[^;]*", "", labels.strip())  # the values of a label
        rows |= {key: set(re.findall(r"`(\w+)`", bare)) for key in re.findall(r"`([a-z_]+)`", names)}
    return rows


def list_of_proxy():
    return {name for name in read_page() if not name.startswith(CONTROLLER)}


def list_of_controller():
    return {name for name in read_page() if name.startswith((CONTROLLER, "process_"))}


def list_families(text):
    return set(re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE))


def check_labels(text):
    rows = read_page()
    for name, labels in re.findall(r"^(\w+)(?:\{(.*?)\})? ", text, re.MULTILINE):
        family = re.sub(r"_(bucket|count|sum)$", "", name)
        if not family.startswith(ELSEWHERE):
            assert set(re.findall(r'(\w+)="', labels)) - {"le"} == rows[family], name


def test_every_metric_of_a_proxy_has_a_row_and_every_row_is_one(start_mesh):
    mesh = start_mesh("--acl", annotations={"retry-attempts": "2"})
    found = list_families(mesh.read_metrics())
    assert {name for name in found if not name.startswith(ELSEWHERE)} == list_of_proxy()


def test_samples_have_the_labels_of_their_rows(start_mesh):
    mesh = start_mesh()
    assert mesh.get("/").status == 200
    check_labels(mesh.read_metrics())


def test_the_limit_of_series_without_a_worker_is_the_code_s():
    assert f"more than {ORPHAN_LIMIT:,} such series" in " ".join((DOCS / "metrics.md").read_text().split())


def test_every_metric_of_a_controller_has_a_row_and_every_row_is_one(start_mesh):
    mesh = start_mesh("--access-log", "--set", "access-log.format=json", annotations={"retry-attempts": "many"})
    assert send_request(mesh.api_port, path="/api/absent").status == 404
    text = send_request(mesh.api_port, path="/metrics").text
    in_a_cluster = {family.name: [family] for family in collect_cluster_metrics(0.0, None)}
    found = list_families(text) | list_families(render_families(in_a_cluster).decode())
    assert found == list_of_controller()
    check_labels(text)
    for sample in (
        "maesh_controller_ready 1.0",
        "maesh_controller_leader 1.0",
        "maesh_controller_services 1.0",
        'maesh_controller_watch_synced{kind="Service",source="manifests"} 1.0',
        'maesh_controller_findings{kind="Service",severity="error"} 1.0',
        'maesh_controller_proxies{state="ready"} 1.0',
        'maesh_controller_api_requests_total{code="404",path="other"} 1.0',
    ):
        assert f"\n{sample}\n" in text
