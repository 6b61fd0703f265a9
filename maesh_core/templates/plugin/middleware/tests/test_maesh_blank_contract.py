"""What holds for every plugin holds for this one."""

from maesh_testing import PluginContract


class TestContract(PluginContract):
    name = "blank"
    settings = {"header": "X-Other"}
    annotations = {"blank": "hello"}
    bad_annotations = ({"blank": "two\nlines"},)
