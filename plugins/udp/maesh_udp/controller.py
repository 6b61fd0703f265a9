"""The controller's half: each UDP port of a service gets an entrypoint of its own."""

from collections.abc import Sequence

from maesh_core.plugin import PortRange, StreamTrafficType, TrafficType, hookimpl
from maesh_udp import UdpSettings


class UdpTrafficType(StreamTrafficType):
    """Traffic type `udp`."""

    name = "udp"
    transport = "UDP"


class ControllerHalf:
    """What the controller loads."""

    def __init__(self, settings: UdpSettings) -> None:
        self._settings = settings

    @hookimpl
    def maesh_traffic_types(self) -> Sequence[TrafficType]:
        """Return the traffic type."""
        settings = self._settings
        return [UdpTrafficType(PortRange(first=settings.port, limit=settings.limit, is_exclusive=True))]
