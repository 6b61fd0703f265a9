"""A plugin whose parts fail, or find what no other plugin finds: by the names of Services and Pods.

The cases of some kinds of findings need it, because no shipped plugin makes them from manifests.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import Pod
from maesh_core.model.topology import AnswerNode, BackendNode, BranchNode, PortRules, RuleTable, ServiceNode
from maesh_core.plugin import Addition, Findings, ObjectChecker, Plugin, TopologyBuilder, TopologyView, hookimpl
from maesh_core.settings import InstalledPlugin

BACKENDS: Final = 65
"""More than a rule may have."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """It has none."""


class FaultyBuilder:
    """Adds to Services that are called `raising`, `broken`, `odd` or `crowded`."""

    name = "faulty"

    def build(self, view: TopologyView, service: ServiceNode) -> Addition | None:
        """Raise for `raising`, return an error for `broken`, a notice for `odd`, and a rule for `crowded`."""
        match service.key.name:
            case "raising":
                raise ValueError("no")
            case "broken":
                return Addition(errors=("it is broken",))
            case "odd":
                return Addition(notices=("it is odd",))
            case "crowded":
                return Addition(rules={(80, "TCP"): _build_rules(service)})
        return None


def _build_rules(service: ServiceNode) -> PortRules:
    backends = (BackendNode(service=service.key, weight=1, port=service.ports[0]),) * BACKENDS
    origin = (Pod, ObjectKey(service.key.namespace, "web"))
    table = RuleTable(AnswerNode(404, "none"), (BranchNode(name="many", backends=backends, origin=origin),))
    return PortRules(producer=table)


class FaultyChecker:
    """Checks Pods."""

    type = Pod

    def check(self, view: TopologyView, resource: Pod, services: Sequence[ObjectKey]) -> Findings | None:
        """Raise for `raising`, find an error of `broken`, and a notice of `odd`."""
        match resource.metadata.name:
            case "raising":
                raise ValueError("no")
            case "broken":
                return Findings(errors=("it is broken",))
            case "odd":
                return Findings(notices=("it is odd",))
        return None


class ControllerHalf:
    """What the controller loads."""

    def __init__(self, settings: Settings) -> None:
        pass

    @hookimpl
    def maesh_topology_builders(self) -> Sequence[TopologyBuilder]:
        """Return the builder."""
        return [FaultyBuilder()]

    @hookimpl
    def maesh_object_checkers(self) -> Sequence[ObjectChecker]:
        """Return the checker."""
        return [FaultyChecker()]


PLUGIN = Plugin(hook_api_version=1, settings=Settings, controller=f"{__name__}:ControllerHalf")
INSTALLED = InstalledPlugin(
    name="faulty",
    distribution="acme-faulty",
    version="1",
    summary="",
    is_default=False,
    path=f"{__name__}:PLUGIN",
)
