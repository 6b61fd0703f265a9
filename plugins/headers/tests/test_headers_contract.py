"""What holds for every plugin holds for this one."""

from maesh_testing import PluginContract


class TestContract(PluginContract):
    name = "headers"
    annotations = {"request-headers": "set X-Team=payments", "response-headers": "add X-Mesh=maesh\nremove Server"}
    bad_annotations = ({"request-headers": "X-Team=payments"}, {"response-headers": "set Content-Length=7"})
