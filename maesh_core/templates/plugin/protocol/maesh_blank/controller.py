"""The controller's half: a service in, what proxies must do for it out."""

from collections.abc import Sequence

from maesh_blank import BlankSettings
from maesh_core.plugin import PortRange, StreamTrafficType, TrafficType, hookimpl


class BlankTrafficType(StreamTrafficType):
    """What a service with `traffic-type: blank` has: for each port an entrypoint of its own, and its servers.

    Overrule `build_section` where a service must say more, by annotations of your own. Raising ConfigurationError
    there closes the service and shows the text on it.
    """

    name = "blank"
    transport = "TCP"


class ControllerHalf:
    """What the controller loads."""

    def __init__(self, settings: BlankSettings) -> None:
        self._settings = settings

    @hookimpl
    def maesh_traffic_types(self) -> Sequence[TrafficType]:
        """Return the traffic types of this plugin."""
        settings = self._settings
        return [BlankTrafficType(PortRange(first=settings.first_port, limit=settings.limit, is_exclusive=True))]
