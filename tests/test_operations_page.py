"""docs/operations.md: every metric, dashboard, panel, reason and anchor that it names exists."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "operations.md").read_text()
DASHBOARDS = [json.loads(path.read_text()) for path in sorted((ROOT / "charts/maesh/dashboards").glob("*.json"))]
ROW = re.compile(r"^\| (.+?) \|", re.MULTILINE)
REASON_TABLES = ("`X-Maesh-Reason`", "message")


def load_known_metrics():
    path = ROOT / "tests" / "charts" / "known_metrics.py"
    spec = importlib.util.spec_from_file_location("maesh_operations_known_metrics", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.read_known_metrics()


def list_tables():
    """List the tables of the page, each as the texts of its first column."""
    for block in re.split(r"\n\n+", PAGE):
        if block.startswith("| "):
            head, _, *rows = ROW.findall(block)
            yield head, rows


def list_reasons():
    """List the reasons in the tables about answers of the mesh."""
    for head, rows in list_tables():
        if head in REASON_TABLES:
            yield from (
                reason for row in rows for reason in re.findall(r"`([^`]+)`", row) if reason != "x-maesh-reason"
            )


def read_sources():
    """Read all Python that runs in the mesh, with the texts of adjacent strings joined."""
    paths = [*ROOT.glob("maesh_core/**/*.py"), *ROOT.glob("plugins/*/maesh_*/**/*.py")]
    return re.sub(r'"\s+f?"', "", "\n".join(path.read_text() for path in paths))


def test_every_metric_is_one_that_the_mesh_has():
    known = load_known_metrics()
    code = set(re.findall(r"`(maesh_[a-z_]+)[`{]", PAGE))
    output = set(re.findall(r"^    (maesh_[a-z_]+)[ {]", PAGE, re.MULTILINE))
    named = code | output
    assert named
    families = {re.sub(r"_bucket$", "", name) for name in known}
    assert [name for name in sorted(named) if name not in known and name not in families] == []


def test_every_text_in_italics_is_a_dashboard_or_a_panel():
    titles = {panel["title"] for dashboard in DASHBOARDS for panel in dashboard["panels"]}
    titles |= {dashboard["title"].removeprefix("Maesh / ") for dashboard in DASHBOARDS}
    named = {" ".join(text.split()) for text in re.findall(r"(?<![*\w])\*(\w[^*`|]*)\*(?![*\w])", PAGE)}
    assert named
    parts = {part for title in titles for part in (title, title.partition(": ")[2], title.partition(",")[0])}
    assert named - parts == set()


@pytest.mark.parametrize("reason", list(list_reasons()))
def test_every_reason_is_one_that_the_mesh_gives(reason):
    texts = read_sources()
    # A name within a reason is a variable of the source.
    parts = re.split(r"(?:ratelimit|acl)\b", reason)
    assert all(part in texts for part in parts), reason
