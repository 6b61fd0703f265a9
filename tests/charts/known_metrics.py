"""The metrics that dashboards and alerts may query, with their labels, as the documentation lists them.

Reads the tables of docs/metrics.md, docs/encryption.md, docs/tunnel.md, docs/tcp-services.md, docs/udp-services.md and
the plugin ratelimit, which other tests compare with what a proxy and a controller serve.
"""

import re
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
ROW = re.compile(r"^\| (`[a-z_]+`(?:, `[a-z_]+`)*) \| (?:([^|]*)\| )?([^|]*) \|$", re.MULTILINE)
RATE_LIMIT = DOCS.parent / "plugins" / "ratelimit" / "README.md"
STREAMS = ("tcp-services.md", "udp-services.md")
TARGET_LABELS = frozenset({"instance", "job", "namespace", "pod"})
"""Labels that Prometheus itself adds."""

AWAITED: dict[str, set[str]] = {}
"""Metrics, or labels of them, that the pages do not have yet. A test fails as soon as they do."""


def read_pages():
    """Read the labels of each metric of the pages; a histogram has `le`."""
    rows = ROW.findall((DOCS / "metrics.md").read_text())
    rows += [row for row in ROW.findall((DOCS / "encryption.md").read_text()) if row[0].startswith("`maesh_")]
    rows += [row for row in ROW.findall(RATE_LIMIT.read_text()) if row[0].startswith("`maesh_")]
    rows += [(name_sample(*row), *row[1:]) for row in ROW.findall((DOCS / "tunnel.md").read_text())]
    for page in STREAMS:
        found = ROW.findall((DOCS / page).read_text())
        rows += [(name, "" if "without label" in text else find_label(text), text) for name, _, text in found]
    return {
        name: set(re.findall(r"`(\w+)`", re.sub(r": [^;|]*", "", labels))) | ({"le"} if "histogram" in text else set())
        for names, labels, text in rows
        for name in re.findall(r"`([a-z_]+)`", names)
    }


def name_sample(name, _, text):
    """Name the sample of a metric of tunnels: the page names counters without their suffix."""
    return name if text.startswith("open ") else name.replace("`", "").join(("`", "_total`"))


def find_label(text):
    """Find the labels of a metric of TCP or UDP: the text names one that is in the place of the service, or added."""
    if further := re.search(r"also has the label (`\w+`)", text):
        return f"`service`, {further[1]}"
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
