"""What holds for every plugin holds for this one."""

from maesh_testing import PluginContract


class TestContract(PluginContract):
    name = "compress"
    settings = {"gzip-level": "6", "br-level": "5", "zstd-level": "4", "responses": "10"}
    annotations = {"compress": "gzip, br", "compress-min-bytes": "100", "compress-types": "text/*"}
    bad_annotations = (
        {"compress": "deflate"},
        {"compress": "gzip", "compress-min-bytes": "-1"},
        {"compress": "gzip", "compress-types": "text"},
    )
