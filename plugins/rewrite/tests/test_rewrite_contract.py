"""What holds for every plugin holds for this one."""

from maesh_testing import PluginContract


class TestContract(PluginContract):
    name = "rewrite"
    annotations = {"rewrite-host": "cart.internal", "rewrite-path": "/v2", "rewrite-prefix": "/"}
    bad_annotations = ({"rewrite-host": "cart.internal:80"}, {"rewrite-path": "/../x"}, {"rewrite-prefix": "v1"})
