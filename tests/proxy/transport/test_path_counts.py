"""What is counted of paths: by service port, kind and reason."""

import re
from pathlib import Path

from maesh_core.model.transport import CLEAR, ENCRYPTED
from maesh_core.proxy.transport import paths
from maesh_core.proxy.transport.path_counts import ConnectionPath, PathCounts


def test_a_connection_counts_for_the_service_that_uses_it():
    counts, path = PathCounts(), ConnectionPath(ENCRYPTED, "", "b")
    for service in ("n/a:80", "n/b:80", "n/b:80", "n/a:80"):
        counter = path.find_counter(counts, service)
        counter.requests += 1
        counter.bytes += 10
    _, requests, octets = counts.collect_metrics()
    assert requests.samples == [(("n/a:80", "encrypted", ""), 2.0), (("n/b:80", "encrypted", ""), 2.0)]
    assert octets.samples == [(("n/a:80", "encrypted", ""), 20.0), (("n/b:80", "encrypted", ""), 20.0)]


def test_a_branch_counts_for_its_service_port():
    counts = PathCounts()
    counts.find("n/a:80/beta", CLEAR, "udp").connections += 1
    assert counts.find("n/a:80", CLEAR, "udp").connections == 1
    assert counts.find("n/a:80", CLEAR, "unreachable").connections == 0


def test_the_page_has_every_metric_and_every_reason():
    page = (Path(__file__).parents[3] / "docs" / "encryption.md").read_text()
    section = page.partition("\n## What is encrypted\n")[2].partition("\n## ")[0]
    rows = set(re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE))
    families = {f"{family.name}_total" for family in PathCounts().collect_metrics()}
    # NO_TRANSPORT is the reason of a proxy without the plugin, which serves none of these metrics.
    reasons = {paths.NO_NODE, paths.NOT_OFFERED, paths.UNREACHABLE, paths.UDP}
    assert rows == families | reasons | {"maesh_edge_paths_total"}
