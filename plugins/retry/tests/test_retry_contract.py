"""What holds for every plugin holds for this one."""

from maesh_testing import PluginContract


class TestContract(PluginContract):
    name = "retry"
    settings = {"body-limit": "1024", "backoff": "10ms", "backoff-limit": "500ms", "budget": "20"}
    annotations = {
        "retry-attempts": "3",
        "retry-on": "connect-failure, 5xx",
        "retry-timeout": "2s",
        "retry-backoff": "20ms",
        "retry-budget": "10",
    }
    bad_annotations = (
        {"retry-attempts": "0"},
        {"retry-on": "refused"},
        {"retry-timeout": "soon"},
        {"retry-backoff": "-1s"},
        {"retry-budget": "101"},
    )
