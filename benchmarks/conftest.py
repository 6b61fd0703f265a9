"""What the benchmarks of parts share: a cluster of 5,000 services as the manifests of scale.py describe it."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))


class NoPlugins:
    """A process without plugins."""

    names: tuple[str, ...] = ()

    def collect(self, hook_name, **arguments):
        return []

    def describe(self, provided):
        return str(provided)


@pytest.fixture(scope="session")
def plugins():
    return NoPlugins()
