"""What the tests of a plugin use: the real mesh as processes, servers behind it, and the contract of every plugin.

Its fixtures (fixtures.py) are there wherever pytest runs with Maesh installed. `FakeExchange` and `FakeNode` stand in
for what a middleware meets where a test would rather have a clock that stands still.
"""

import pytest

pytest.register_assert_rewrite("maesh_testing.contract")

from maesh_testing.commands import Command, build_environment, wait_until  # noqa: E402 - pytest must hear of it first
from maesh_testing.contract import PluginContract  # noqa: E402
from maesh_testing.doubles import FakeExchange, FakeNode  # noqa: E402
from maesh_testing.http_client import Answer, send_request  # noqa: E402
from maesh_testing.ports import find_free_port  # noqa: E402
from maesh_testing.running_mesh import RunningMesh, build_pod, build_service  # noqa: E402
from maesh_testing.upstream import Request, Upstream  # noqa: E402

__all__ = [
    "Answer",
    "Command",
    "FakeExchange",
    "FakeNode",
    "PluginContract",
    "Request",
    "RunningMesh",
    "Upstream",
    "build_environment",
    "build_pod",
    "build_service",
    "find_free_port",
    "send_request",
    "wait_until",
]
