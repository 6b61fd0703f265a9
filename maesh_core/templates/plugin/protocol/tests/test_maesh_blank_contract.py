"""What holds for every plugin holds for this one."""

from maesh_testing import PluginContract


class TestContract(PluginContract):
    name = "blank"
    settings = {"first-port": "17500", "limit": "5"}
