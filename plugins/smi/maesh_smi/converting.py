"""Converts TrafficSplits to routes of the Gateway API, for `maesh convert smi`.

Takes the objects of manifests; returns an HTTPRoute, TCPRoute or UDPRoute for each port of a service that is split,
which divides its traffic in the same way. Nested splits are resolved, because a route's backends are pods and not other
routes. Notes say where the meaning differs. TrafficTargets have no equivalent: they stay, and also apply to routes.
"""

from collections.abc import Iterator, Sequence
from math import gcd
from typing import Any

from maesh_core.plugin import (
    BackendNode,
    BranchNode,
    Conversion,
    ConvertedObject,
    HttpMatch,
    ObjectKey,
    PortNode,
    Resource,
    ResourceKind,
    ServiceNode,
    TopologyView,
)
from maesh_smi.kinds import KINDS, HttpRouteGroup, TrafficSplit
from maesh_smi.route_matches import InexpressibleError, Match, arrange, convert_match, render_matches
from maesh_smi.splits import Resolver

API_VERSION = "gateway.networking.k8s.io/v1"
ROUTE_KINDS = {"http": "HTTPRoute", "tcp": "TCPRoute", "udp": "UDPRoute"}
RULE_LIMIT, BACKEND_LIMIT, WEIGHT_LIMIT = 16, 16, 1_000_000
"""Limits of a route, of a rule, and of a backend (Gateway API)."""
NOTES = (
    "Made by `maesh convert smi`. Apply these routes, check them with `maesh explain`, and then delete the"
    " TrafficSplits: while a port has both, the route decides.",
    "A backend without ready pods: its share is answered with 503 (TCP: reset, UDP: dropped). A TrafficSplit passes it"
    " on to the other backends.",
)
STAYS = "TrafficTargets and the HTTPRouteGroups that they name stay: the Gateway API has no equivalent."


class SmiConverter:
    """Converts the splits of manifests."""

    kinds: Sequence[ResourceKind] = KINDS

    def convert(self, view: TopologyView, resources: Sequence[Resource]) -> Conversion:
        """Convert the splits of each service."""
        splits = [each for each in resources if isinstance(each, TrafficSplit)]
        roots = sorted({split.root for split in splits if split.root is not None})
        objects: list[ConvertedObject] = []
        failures = [
            f"TrafficSplit {split.key}: service {split.spec.service} is in another namespace, so it has no effect"
            for split in splits
            if split.root is None
        ]
        for root in roots:
            node = view.build_service(root)
            if node is None:
                names = ", ".join(sorted(split.metadata.name for split in splits if split.root == root))
                failures.append(f"TrafficSplit {names} of namespace {root.namespace}: there is no service {root.name}")
                continue
            found, failed = _convert_service(view, node)
            objects += found
            failures += failed
        notes = (*NOTES, STAYS) if any(isinstance(each, HttpRouteGroup) for each in resources) else NOTES
        return Conversion(objects=tuple(objects), notes=notes if objects else (), failures=tuple(failures))


def _convert_service(view: TopologyView, node: ServiceNode) -> tuple[list[ConvertedObject], list[str]]:
    resolver = Resolver(view, node)
    objects: list[ConvertedObject] = []
    failures: list[str] = []
    for port in node.ports:
        branches = resolver.build_branches(port)
        if resolver.unread is not None:
            return [], [f"service {node.key}: TrafficSplit {', '.join(resolver.unread.names)} cannot be read"]
        if not branches:
            continue
        writer = _RouteWriter(node, port)
        try:
            value = writer.write(branches)
        except InexpressibleError as error:
            failures.append(f"service {node.key}, port {port.number}: no route divides its traffic so: {error}")
            continue
        names = ", ".join(key.name for key in sorted(resolver.shown))
        notes = (f"Service {node.key.name}, port {port.number}: TrafficSplit {names}.", *writer.notes)
        objects.append(ConvertedObject(value=value, notes=(*notes, *resolver.list_errors())))
    return objects, failures


class _RouteWriter:
    """Writes the route of one port; `notes` say where its meaning differs."""

    def __init__(self, node: ServiceNode, port: PortNode) -> None:
        self._node, self._port = node, port
        self.notes: list[str] = []

    def write(self, branches: Sequence[BranchNode]) -> dict[str, Any]:
        """Write the route. Raises InexpressibleError."""
        kind = ROUTE_KINDS.get(self._node.get_traffic_type(self._port) or "")
        if kind is None:
            raise InexpressibleError(f"it has the traffic type {self._node.get_traffic_type(self._port)}")
        rules = self._write_http_rules(branches) if kind == "HTTPRoute" else [self._write_rule(branches[0].backends)]
        key = self._node.key
        suffix = f"-{self._port.number}" if len(self._node.ports) > 1 else ""
        return {
            "apiVersion": API_VERSION,
            "kind": kind,
            "metadata": {"name": f"{key.name}{suffix}", "namespace": key.namespace},
            "spec": {"parentRefs": [self._write_parent()], "rules": rules},
        }

    def _write_parent(self) -> dict[str, Any]:
        parent: dict[str, Any] = {"group": "", "kind": "Service", "name": self._node.key.name}
        if len(self._node.ports) > 1:
            parent |= {"sectionName": self._port.name} if self._port.name else {"port": self._port.number}
        return parent

    def _write_http_rules(self, branches: Sequence[BranchNode]) -> list[dict[str, Any]]:
        """Write a rule for each branch; requests that no split matches go to the service itself."""
        chosen = list(branches)
        if chosen[-1].matches:
            own = BackendNode(service=self._node.key, weight=1, port=self._port)
            chosen.append(BranchNode(name="rest", backends=(own,)))
        matches = [
            [converted for match in branch.matches or (HttpMatch(),) for converted in convert_match(match)]
            for branch in chosen
        ]
        arranged = arrange(matches)
        self.notes += [f"CHECK: {text}" for text in arranged.differences]
        used = [(branch, found) for branch, found in zip(chosen, arranged.rules, strict=True) if found]
        if len(used) > RULE_LIMIT:
            raise InexpressibleError(f"it needs more than {RULE_LIMIT} rules")
        return [self._write_rule(branch.backends, found) for branch, found in used]

    def _write_rule(self, backends: Sequence[BackendNode], matches: Sequence[Match] = ()) -> dict[str, Any]:
        if len(backends) > BACKEND_LIMIT:
            raise InexpressibleError(f"a rule needs more than {BACKEND_LIMIT} backends")
        if not any(backend.weight for backend in backends):
            self.notes.append("CHECK: no backend has a weight, which a route answers with 500 and a split with 503.")
        rule = dict(render_matches(matches)) if matches else {}
        return {**rule, "backendRefs": list(self._write_backends(backends))}

    def _write_backends(self, backends: Sequence[BackendNode]) -> Iterator[dict[str, Any]]:
        weights = [backend.weight for backend in backends]
        divisor = gcd(*weights) or 1
        largest = max(weights, default=0) // divisor
        if largest > WEIGHT_LIMIT:
            self.notes.append(f"The weights are rounded, because those of routes end at {WEIGHT_LIMIT}.")
        for backend in backends:
            weight = backend.weight // divisor
            if largest > WEIGHT_LIMIT and weight:
                weight = max(1, round(weight * WEIGHT_LIMIT / largest))
            number = self._port.number if backend.port is None else backend.port.number
            reference = _name_backend(backend.service, self._node.key)
            yield {**reference, "port": number, **({"weight": weight} if len(backends) > 1 or weight != 1 else {})}


def _name_backend(service: ObjectKey, parent: ObjectKey) -> dict[str, str]:
    return {"name": service.name} | ({} if service.namespace == parent.namespace else {"namespace": service.namespace})


CONVERTER = SmiConverter()
