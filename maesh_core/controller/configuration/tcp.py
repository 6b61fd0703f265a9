"""The controller's half of TCP."""

from maesh_core.model.schemes import TCP_SCHEMES
from maesh_core.plugin_system.stream_traffic import StreamTrafficType


class TcpTrafficType(StreamTrafficType):
    """Traffic type `tcp`: each port of a service has an entrypoint of its own."""

    name = "tcp"
    transport = "TCP"
    schemes = TCP_SCHEMES
