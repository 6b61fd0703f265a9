"""The chart, rendered by Helm's own engine, and what its Roles allow."""

import copy
import importlib.util
import json
import shutil
import subprocess
from pathlib import Path

import helm_python
import pytest
import yaml

FOLDER = Path(__file__).resolve().parent
CHART = FOLDER.parents[1] / "charts" / "maesh"


def load_module(name):
    """Load a module of this folder, which is no package."""
    spec = importlib.util.spec_from_file_location(f"maesh_chart_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class StrictLoader(yaml.CSafeLoader):
    """Refuses what the API server would: one key twice."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"a key stands there twice: {keys}"
        return super().construct_mapping(node, deep=deep)


@pytest.fixture(scope="session")
def chart():
    with helm_python.Chart.load(CHART) as loaded:
        yield loaded


@pytest.fixture(scope="session")
def render(chart):
    """Render the chart to a list of objects; raises what Helm says to values that cannot be used.

    The same values are rendered once; every caller has objects of its own.
    """
    rendered = {}

    def render_objects(values=None, *, name="maesh", namespace="maesh", **options):
        given = {"values": values or {}, "name": name, "namespace": namespace, **options}
        key = json.dumps(given, sort_keys=True)
        if key not in rendered:
            files = chart.render(given.pop("values"), **given)
            texts = [text for path, text in sorted(files.items()) if path.endswith(".yaml")]
            rendered[key] = [each for text in texts for each in yaml.load_all(text, StrictLoader) if each]
        return copy.deepcopy(rendered[key])

    return render_objects


@pytest.fixture(scope="session")
def permissions():
    """Return the class that says what accounts may do: `permissions(objects).allows("maesh/maesh-controller", ...)`."""
    return load_module("permissions").Permissions


@pytest.fixture(scope="session")
def small_cluster():
    """Return the class of a cluster on this machine that runs and upgrades releases of the chart."""
    return load_module("small_cluster").SmallCluster


@pytest.fixture(scope="session")
def read_usage():
    """Return the function that reads the metrics and labels of a PromQL expression."""
    return load_module("promql").read_usage


@pytest.fixture(scope="session")
def known_metrics():
    """Return the labels of each metric that may be queried, by name."""
    return load_module("known_metrics").read_known_metrics()


@pytest.fixture(scope="session")
def promtool():
    """Return a function that runs Prometheus' promtool; without it, the test is skipped."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed: it is in Debian's package prometheus")

    def run(*arguments):
        result = subprocess.run([program, *arguments], capture_output=True, text=True, check=False, timeout=60)
        return result.returncode, result.stdout + result.stderr

    return run
