"""What holds for every plugin holds for this one."""

from maesh_testing import PluginContract


class TestContract(PluginContract):
    name = "circuitbreaker"
    settings = {"check-period": "1s", "fallback-duration": "5s", "recovery-duration": "5s"}
    annotations = {"circuit-breaker-expression": "NetworkErrorRatio() > 0.5"}
    bad_annotations = ({"circuit-breaker-expression": "NetworkErrorRatio() > 1"},)
