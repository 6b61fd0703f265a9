"""A topology builder for cases of the mesh: it reads rules of ports from `routes.json`, as a plugin builds them."""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from maesh_core.model.keys import ObjectKey, build_port_key
from maesh_core.model.matches import HttpMatch
from maesh_core.model.topology import (
    AnswerNode,
    BackendNode,
    BranchNode,
    FilterNode,
    OrderedMatch,
    PortRules,
    RuleTable,
    ServiceNode,
)
from maesh_core.plugin_system.hookspecs import Addition
from maesh_core.plugin_system.interfaces import TopologyView


class CaseBackend(msgspec.Struct, forbid_unknown_fields=True):
    service: str
    port: int = 80
    weight: int = 1
    filters: tuple[FilterNode, ...] = ()
    protocol: str = ""


class CaseRule(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    label: str = ""
    matches: tuple[HttpMatch, ...] = (HttpMatch(),)
    backends: tuple[CaseBackend, ...] = ()
    filters: tuple[FilterNode, ...] = ()
    answer: AnswerNode | None = None


class CaseRoutes(msgspec.Struct, forbid_unknown_fields=True):
    rules: tuple[CaseRule, ...] | None = None
    consumers: dict[str, tuple[CaseRule, ...]] = {}
    copies: dict[str, CaseBackend] = {}


class RouteBuilder:
    """Builds the rules of a case; `routes` are by service port."""

    name = "routes"

    def __init__(self, routes: Mapping[str, CaseRoutes]) -> None:
        self._routes = routes

    def build(self, view: TopologyView, service: ServiceNode) -> Addition:
        keys = {build_port_key(service.key, port.number): (port.number, port.protocol) for port in service.ports}
        found = {place: self._routes[key] for key, place in keys.items() if key in self._routes}
        return Addition(
            rules={place: self._build_rules(view, service, each) for place, each in found.items()},
            side_backends={
                place: {name: self._build_backend(view, service, copy) for name, copy in each.copies.items()}
                for place, each in found.items()
            },
        )

    def _build_rules(self, view: TopologyView, service: ServiceNode, routes: CaseRoutes) -> PortRules:
        return PortRules(
            producer=None if routes.rules is None else self._build_table(view, service, routes.rules),
            consumers={name: self._build_table(view, service, rules) for name, rules in routes.consumers.items()},
        )

    def _build_table(self, view: TopologyView, service: ServiceNode, rules: tuple[CaseRule, ...]) -> RuleTable:
        return RuleTable(
            no_match=AnswerNode(404, "no rule matches"),
            rules=tuple(
                BranchNode(
                    name=rule.name,
                    label=rule.label,
                    backends=tuple(self._build_backend(view, service, each) for each in rule.backends),
                    filters=rule.filters,
                    answer=rule.answer,
                    keeps_shares=True,
                )
                for rule in rules
            ),
            order=tuple(
                OrderedMatch(match=match, rule=index) for index, rule in enumerate(rules) for match in rule.matches
            ),
        )

    def _build_backend(self, view: TopologyView, service: ServiceNode, case: CaseBackend) -> BackendNode:
        namespace, slash, name = case.service.rpartition("/")
        key = ObjectKey(namespace if slash else service.key.namespace, name)
        node = view.build_service(key)
        port = next((each for each in node.ports if each.number == case.port), None) if node is not None else None
        return BackendNode(
            service=key,
            weight=case.weight,
            port=port,
            annotations=node.annotations if node is not None else {},
            filters=case.filters,
            answer=AnswerNode(500, f"there is no port {case.port} of service {key}") if port is None else None,
            protocol=case.protocol,
        )


def load_routes(folder: Path) -> RouteBuilder | None:
    """Read the rules of a case; None if it has none."""
    path = folder / "routes.json"
    if not path.exists():
        return None
    return RouteBuilder(msgspec.json.decode(path.read_bytes(), type=dict[str, CaseRoutes]))
