"""docs/metrics.md names every metric of a proxy, with its labels, and none that there is not."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"
ROW = re.compile(r"^\| (`[a-z_]+`(?:, `[a-z_]+`)*) \| ([^|]*)\|", re.MULTILINE)
ELSEWHERE = ("maesh_tcp_", "maesh_udp_")

pytestmark = pytest.mark.integration


def read_page():
    """Give the labels of each metric that the page has a row for."""
    rows = {}
    for names, labels in ROW.findall((DOCS / "metrics.md").read_text()):
        bare = re.sub(r": .*", "", labels.strip())  # the values of a label
        rows |= {key: set(re.findall(r"`(\w+)`", bare)) for key in re.findall(r"`([a-z_]+)`", names)}
    return rows


def test_every_metric_of_a_proxy_has_a_row_and_every_row_is_one(start_mesh):
    mesh = start_mesh("--acl", annotations={"retry-attempts": "2"})
    text = mesh.read_metrics()
    found = set(re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE))
    assert {name for name in found if not name.startswith(ELSEWHERE)} == set(read_page())


def test_samples_have_the_labels_of_their_rows(start_mesh):
    mesh = start_mesh()
    assert mesh.get("/").status == 200
    rows = read_page()
    samples = re.findall(r"^(\w+)(?:\{(.*?)\})? ", mesh.read_metrics(), re.MULTILINE)
    for name, labels in samples:
        family = re.sub(r"_(bucket|count|sum)$", "", name)
        if not family.startswith(ELSEWHERE):
            assert set(re.findall(r'(\w+)="', labels)) - {"le"} == rows[family], name
