"""What holds for every plugin holds for this one."""

from maesh_testing import PluginContract


class TestContract(PluginContract):
    name = "concurrency"
    settings = {"accounts": "true"}
    annotations = {
        "limit-concurrency": "100",
        "limit-concurrency-adaptive": "false",
        "limit-concurrency-min": "5",
        "limit-concurrency-source": "ip",
    }
    bad_annotations = (
        {"limit-concurrency": "0"},
        {"limit-concurrency": "many"},
        {"limit-concurrency": "10", "limit-concurrency-source": "cookie"},
        {"limit-concurrency": "10", "limit-concurrency-adaptive": "maybe"},
        {"limit-concurrency": "10", "limit-concurrency-adaptive": "true", "limit-concurrency-min": "0"},
    )
