"""What holds for every test in the tree, the plugins' included."""

from hypothesis import settings

from maesh_core import engine

# A loaded machine must not fail a test: how long an example takes is a matter for benchmarks.
settings.register_profile("maesh", deadline=None)
settings.load_profile("maesh")

collect_ignore_glob = ["tests/data/*"]
"""Plugins that a test installs have tests of their own, which run where they are installed."""


def pytest_report_header():
    """Say which form of the engine the tests run."""
    return f"maesh engine: {engine.form} {engine.reason}"
