"""What holds for every plugin holds for this one, in a mesh that lets its test in."""

import pytest

from maesh_testing import PluginContract

from .test_acl_mesh import allow, build_group


class TestContract(PluginContract):
    name = "acl"
    settings = {"own-namespace-only": "false", "mode": "audit", "audit-by-annotation": "service"}
    annotations = {"acl-mode": "enforce", "service-account": "partner"}
    bad_annotations = ({"acl-mode": "log"}, {"service-account": "No Name"})

    @pytest.fixture
    def start_mesh(self, start_mesh, start_upstream):
        """Start a mesh whose servers are pods, and whose client is one that they let in."""

        def start(*flags, servers=1, objects=(), **arguments):
            upstreams = [start_upstream(f"app-{number}", f"127.0.2.{number + 1}") for number in range(servers)]
            granted = [*allow("127.0.0.1", ("HTTPRouteGroup", "api")), build_group({"pathRegex": "/"})]
            if objects:  # another service, which these grants do not concern
                flags = (*flags, "--set", "acl.mode=audit")
            return start_mesh(*flags, servers=upstreams, account="server", objects=[*objects, *granted], **arguments)

        return start
