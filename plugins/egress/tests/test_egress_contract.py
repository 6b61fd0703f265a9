"""What holds for every plugin holds for this one."""

from maesh_testing import PluginContract


class TestContract(PluginContract):
    name = "egress"
    settings = {
        "allow": "api.example.com,*.example.org",
        "networks": "10.20.0.0/16",
        "resolvers": "127.0.0.1:9",
        "families": "ipv4",
        "timeout": "2s",
        "shortest-ttl": "1s",
        "longest-ttl": "10m",
        "stale": "1h",
    }
