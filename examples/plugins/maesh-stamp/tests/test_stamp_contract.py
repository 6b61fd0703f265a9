"""What holds for every plugin holds for this one."""

from maesh_testing import PluginContract


class TestContract(PluginContract):
    name = "stamp"
    settings = {"prefix": "X-"}
    annotations = {"stamp": "X-Team: payments"}
    bad_annotations = ({"stamp": "no header"}, {"stamp": "X Team: payments"})
