"""What holds for every plugin holds for this one."""

from maesh_testing import PluginContract


class TestContract(PluginContract):
    name = "gateway"
    settings = {"client-namespaces": "consumers", "reference-grants": "strict"}
