"""What holds for every plugin holds for this one."""

from maesh_testing import PluginContract


class TestContract(PluginContract):
    name = "session"
    settings = {"secret": "sesame"}
    annotations = {
        "session-cookie": "shop",
        "session-header": "X-Session",
        "session-path": "/shop",
        "session-lifetime": "8h",
        "session-idle-timeout": "30m",
        "session-permanent": "true",
    }
    bad_annotations = (
        {"session-cookie": "a b"},
        {"session-header": "Content-Length"},
        {"session-cookie": "a", "session-path": "shop"},
        {"session-cookie": "a", "session-lifetime": "soon"},
        {"session-lifetime": "8h"},
    )
