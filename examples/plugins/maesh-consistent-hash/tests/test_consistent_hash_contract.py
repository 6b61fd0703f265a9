"""What holds for every plugin holds for this one."""

from maesh_testing import PluginContract


class TestContract(PluginContract):
    name = "consistent-hash"
    annotations = {"load-balancer": "consistent-hash", "hash-header": "X-User"}
    bad_annotations = ({"load-balancer": "consistent-hash", "hash-header": "X User"},)
