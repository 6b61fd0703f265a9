"""What holds for every plugin holds for this one."""

from maesh_testing import PluginContract


class TestContract(PluginContract):
    name = "timeout"
    annotations = {"request-timeout": "10s", "backend-request-timeout": "2s"}
    bad_annotations = (
        {"request-timeout": "soon"},
        {"backend-request-timeout": "-1s"},
        {"request-timeout": "1s", "backend-request-timeout": "2s"},
    )
