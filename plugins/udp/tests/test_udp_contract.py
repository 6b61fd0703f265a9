"""What holds for every plugin holds for this one."""

from maesh_testing import PluginContract


class TestContract(PluginContract):
    name = "udp"
    settings = {"port": "16000", "limit": "5", "session-timeout": "30s", "session-limit": "100"}
