"""The chart's values, their schema, and values that tests of several modules set."""

import copy
import json
from pathlib import Path

import yaml

CHARTS = Path(__file__).resolve().parents[2] / "charts"
DEFAULTS = yaml.safe_load((CHARTS / "maesh" / "values.yaml").read_text())
SCHEMA = json.loads((CHARTS / "maesh" / "values.schema.json").read_text())
SCRAPE = {"metrics": {"serviceMonitor": {"enabled": True}}}
POD_SCRAPE = {"metrics": {"podMonitor": {"enabled": True}}}
ENCRYPTION = {"mtls": {"enabled": True}}
RULE = {"apiGroups": ["a.example"], "resources": ["b"], "verbs": ["get"]}


def build_values(path, value, base=None):
    """Return values with one more at a path, such as `image.tag`."""
    values = copy.deepcopy(base or {})
    node = values
    *above, last = path.split(".")
    for key in above:
        node = node.setdefault(key, {})
    node[last] = value
    return values


def list_nodes(schema, path=""):
    """Yield each schema below a schema, with its path."""
    yield path, schema
    for key in ("properties", "patternProperties", "definitions"):
        for name, below in schema.get(key, {}).items():
            yield from list_nodes(below, f"{path}.{name}" if key != "definitions" else name)
