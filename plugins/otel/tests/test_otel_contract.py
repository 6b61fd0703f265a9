"""What holds for every plugin holds for this one."""

from maesh_testing import PluginContract


class TestContract(PluginContract):
    name = "otel"
    settings = {
        "endpoint": "http://127.0.0.1:9",
        "protocol": "http/protobuf",
        "sample": "0.5",
        "mark-unsampled": "true",
        "service-name": "mesh",
        "headers": "x-key=1",
        "queue": "100",
        "delay": "1s",
        "client-pods": "true",
    }
    annotations = {"tracing": "true", "trace-sample": "0.5"}
    bad_annotations = ({"trace-sample": "1.5"}, {"tracing": "maybe"})
