"""What the tests of a plugin use: the real mesh as processes, servers behind it, and the contract of every plugin.

pytest loads the fixtures (fixtures.py) if this distribution is installed. `FakeExchange` and `FakeNode` are doubles for
tests of a middleware; their clock moves only when the test moves it.
"""

import pytest

pytest.register_assert_rewrite("maesh_testing.contract")

from maesh_testing.commands import Command, build_environment, wait_until  # noqa: E402 - after register_assert_rewrite
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
