"""What holds for every plugin holds for this one."""

from maesh_testing import PluginContract


class TestContract(PluginContract):
    name = "mirror"
    settings = {"body-limit": "1024"}
    annotations = {"mirror-service": "app.test:80", "mirror-percent": "10", "mirror-body-limit": "0"}
    bad_annotations = (
        {"mirror-service": "app"},
        {"mirror-service": "app.test:80", "mirror-percent": "101"},
        {"mirror-percent": "10"},
        {"mirror-body-limit": "-1"},
    )
