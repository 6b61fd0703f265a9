"""What holds for every plugin holds for this one."""

from maesh_testing import PluginContract


class TestContract(PluginContract):
    name = "redirect"
    annotations = {
        "redirect-scheme": "https",
        "redirect-host": "shop.example",
        "redirect-port": "8443",
        "redirect-path": "/shop",
        "redirect-prefix": "/",
        "redirect-status": "308",
    }
    expected_status = 308
    bad_annotations = (
        {"redirect-scheme": "ftp"},
        {"redirect-host": "shop.example/"},
        {"redirect-port": "0"},
        {"redirect-path": "//evil.example"},
        {"redirect-prefix": "shop"},
        {"redirect-status": "304"},
    )
