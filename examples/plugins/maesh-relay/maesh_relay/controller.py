"""The controller's half: which mode a service has, and which nodes take part."""

from collections.abc import Mapping, Sequence
from typing import Literal

from maesh_core.plugin import MeshNode, ServiceNode, TransportRules, hookimpl, read_annotation
from maesh_relay import RelayNode, RelaySettings

MODE = "relay"
_Mode = Literal["off", "permissive", "strict"]


class RelayRules:
    """Implements `TransportRules`."""

    name = "relay"
    annotations: tuple[str, ...] = (MODE,)

    def __init__(self, settings: RelaySettings) -> None:
        self._settings = settings

    def build_mode(self, annotations: Mapping[str, str], service: ServiceNode) -> str:
        """Return the value of the annotation, or the default. Raises ConfigurationError."""
        mode: str | None = read_annotation(annotations, MODE, _Mode)
        return self._settings.mode if mode is None else mode

    def describe_node(self, node: MeshNode) -> RelayNode | None:
        """Describe a node that has a proxy."""
        addresses = tuple(pod.address for pod in node.proxies)
        return RelayNode(addresses, self._settings.port) if addresses else None


class ControllerHalf:
    """What a controller loads."""

    def __init__(self, settings: RelaySettings) -> None:
        self._rules = RelayRules(settings)

    @hookimpl
    def maesh_transport_rules(self) -> Sequence[TransportRules]:
        """Return the only transport of this plugin."""
        return [self._rules]
