"""What holds for every plugin holds for this one."""

from maesh_testing import PluginContract


class TestContract(PluginContract):
    name = "ratelimit"
    annotations = {
        "ratelimit-average": "100",
        "ratelimit-burst": "200",
        "ratelimit-period": "1m",
        "ratelimit-source": "host",
    }
    bad_annotations = (
        {"ratelimit-average": "-5"},
        {"ratelimit-burst": "many"},
        {"ratelimit-period": "0s"},
        {"ratelimit-source": "cookie"},
    )
