"""What holds for every plugin holds for this one."""

from maesh_testing import PluginContract


class TestContract(PluginContract):
    name = "fault"
    annotations = {
        "fault-delay": "1ms",
        "fault-delay-percent": "50",
        "fault-abort": "418",
        "fault-abort-percent": "100",
    }
    expected_status = 418
    bad_annotations = (
        {"fault-delay": "soon"},
        {"fault-delay": "1s", "fault-delay-percent": "101"},
        {"fault-abort": "200"},
        {"fault-abort": "503", "fault-abort-percent": "many"},
    )
