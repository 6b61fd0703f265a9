"""What holds for every plugin holds for this one, in a mesh that lets its test in."""

import pytest

from maesh_testing import PluginContract

from .test_acl_mesh import allow


class TestContract(PluginContract):
    name = "acl"
    settings = {"own-namespace-only": "false"}

    @pytest.fixture
    def start_mesh(self, start_mesh, start_upstream):
        """Start a mesh whose servers are pods, and whose client is one that they let in."""

        def start(*flags, servers=1, objects=(), **arguments):
            upstreams = [start_upstream(f"app-{number}", f"127.0.2.{number + 1}") for number in range(servers)]
            granted = allow("127.0.0.1")
            return start_mesh(*flags, servers=upstreams, account="server", objects=[*objects, *granted], **arguments)

        return start
