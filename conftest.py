"""What holds for every test in the tree, the plugins' included."""

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from maesh_core import engine
from maesh_testing import find_free_port
from maesh_testing.namespaces import require_namespaces

pytest_plugins = ["maesh_testing.leaks"]

# A loaded machine must not fail a test: how long an example takes is a matter for benchmarks. In CI, every run tries
# the same examples, so a change is refused only for what it changed; others try new ones.
settings.register_profile("maesh", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("maesh"), derandomize=True)
settings.load_profile("maesh")

SLOW_FIXTURES = frozenset({"api_server", "make_once", "start_maesh", "start_upstream"})
"""What uses one of them is no test for `make test-fast`."""
GROUPS = {
    "plugins/acl/tests/test_acl_scale.py": "engine",
    "tests/charts/test_command_lines.py": "chart",
    "tests/charts/test_permissions.py": "chart",
    "tests/charts/test_pods.py": "chart",
    "tests/charts/test_rendering.py": "chart",
    "tests/charts/test_refused_values.py": "chart",
    "tests/charts/test_values.py": "chart",
    "tests/conformance/test_conformance.py": "conformance",  # its report needs the results of all cases
    "tests/integration/test_built_distributions.py": "distributions",
    "tests/integration/test_tcp_peers.py": "PostgreSQL",
    "tests/test_examples.py": "examples",  # their servers have fixed addresses and ports
    "tests/testing/test_leaks.py": "leaks",
}
"""Modules whose tests one worker runs one after the other, since they share something that is fixed or expensive."""
INTEGRATION_WORDS = ("integration", "PluginContract")
"""What a module with tests that run commands has in its text."""
collect_ignore_glob = ["tests/data/*"]
"""Plugins that a test installs have tests of their own, which run where they are installed."""


def pytest_addoption(parser):
    """Add a random order, in which tests that depend on each other are found."""
    parser.addoption("--shuffle", type=int, metavar="SEED", help="run tests in the order that this number gives")


def pytest_ignore_collect(collection_path, config):
    """Leave out modules without a test that runs commands if only those are asked for: to collect all takes long."""
    if config.option.markexpr == "integration" and collection_path.suffix == ".py":
        text = collection_path.read_text()
        return None if any(word in text for word in INTEGRATION_WORDS) else True
    return None


def pytest_collection_modifyitems(config, items):
    """Mark the tests that need a process or a server; put all into the order of `--shuffle`, alike in every worker."""
    root = Path(__file__).parent
    for path in (root / each for each in GROUPS):
        if path.parent.is_dir() and not path.is_file():  # a plugin's folder may be taken away
            raise pytest.UsageError(f"GROUPS in conftest.py names a module that does not exist: {path}")
    for item in items:
        if SLOW_FIXTURES.intersection(item.fixturenames):
            item.add_marker("slow")
    seed = config.getoption("shuffle")
    if seed is not None:
        random.Random(seed).shuffle(items)  # noqa: S311 - not for cryptography


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Keep the tests of a group together, unless `--dist` asks for something else; others go to any free worker."""
    if config.getoption("dist") != "load":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class GroupScheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return GROUPS.get(nodeid.partition("::")[0], nodeid)

        def mark_test_complete(self, node, item_index, duration=0.0):
            """Forget a group that has ended: xdist looks at all of a worker's groups whenever a test ends (20 s)."""
            nodeid = self.registered_collections[node][item_index]
            units = self.assigned_work[node]
            unit = units[self._split_scope(nodeid)]
            unit[nodeid] = True
            if all(unit.values()):
                del units[self._split_scope(nodeid)]
            self._reschedule(node)

    return GroupScheduling(config, log)


def pytest_report_header():
    """Say which form of the engine the tests run."""
    return f"maesh engine: {engine.form} {engine.reason}"


@pytest.fixture(scope="session")
def unused_tcp_port_factory():
    """Return what finds ports that no other worker is given, and that no outgoing connection has."""
    return find_free_port


@pytest.fixture
def unused_tcp_port(unused_tcp_port_factory):
    """Return one such port."""
    return unused_tcp_port_factory()


@pytest.fixture(scope="session")
def namespaces():
    """Skip the tests where no network namespaces can be made, unless `REQUIRE_NAMESPACES` is set: then they fail."""
    require_namespaces()
