"""What the status of a service's port says: its entrypoint, its scheme, and why nothing serves it.

Takes the ports of a node with their entrypoints; returns values that the API and the dashboard show. Pure.
"""

import msgspec

from maesh_core.controller.configuration.annotation_values import choose_scheme
from maesh_core.controller.configuration.port_plan import PlacedPort, PortGroup
from maesh_core.model.annotations import parse_stream_scheme
from maesh_core.model.configuration import PortStatus
from maesh_core.model.topology import BackendNode, PortNode, RuleProblem, RuleTable
from maesh_core.plugin_system.rules import name_kind


def describe_port(place: PlacedPort, group: PortGroup, *, is_http: bool) -> PortStatus:
    """Describe a port that has an entrypoint, or is closed with a reason."""
    if is_http:
        scheme = choose_scheme(group.annotations, place.port)
    else:
        scheme = parse_stream_scheme(group.annotations, getattr(group.traffic_type, "schemes", ()))
    return msgspec.structs.replace(
        describe_unserved_port(place.port),
        entrypoint=place.target,
        unserved=_explain_unserved(place.port),
        scheme=scheme,
        has_own_entrypoint=place.own_entrypoint > 0,
    )


def describe_unserved_port(port: PortNode) -> PortStatus:
    """Describe a port without an entrypoint."""
    return PortStatus(
        name=port.name,
        port=port.number,
        protocol=port.protocol,
        app_protocol=port.app_protocol,
        traffic_type=port.traffic_type or "",
    )


def _explain_unserved(port: PortNode) -> str:
    """Explain why nothing that serves the port's traffic has a ready server; empty if something has.

    A branch without conditions takes all traffic from the service's own servers, and so do rules.
    """
    if port.rules is not None:
        return _explain_unserved_rules(port.rules)
    backends = [backend for branch in port.branches for backend in branch.backends if backend.weight]
    if any(backend.servers for backend in backends):
        return ""
    if all(branch.matches for branch in port.branches):
        return port.unserved
    names = {f"{backend.service}": backend.port.unserved for backend in backends if backend.port is not None}
    reasons = "; ".join(f"{name}: {reason}" for name, reason in sorted(names.items()))
    return f"no backend of its split is ready ({reasons})" if reasons else "its split has no backend with weight"


def _explain_unserved_rules(table: RuleTable) -> str:
    """Explain why no backend of a port's rules has a ready server; empty if one has, or if there is no backend."""
    backends = [backend for rule in table.rules for backend in rule.backends if backend.weight]
    if not backends or any(backend.servers for backend in backends):
        return ""
    names = {str(backend.service): _explain_unserved_backend(backend) for backend in backends}
    return f"no backend of its rules is ready ({'; '.join(f'{name}: {names[name]}' for name in sorted(names))})"


def _explain_unserved_backend(backend: BackendNode) -> str:
    if backend.port is not None:
        return backend.port.unserved
    return backend.answer.reason if backend.answer is not None else "it has no port"


def describe_problem(problem: RuleProblem) -> str:
    """Describe a problem of a rule, as its Service shows it."""
    origin = "" if problem.origin is None else f" of {name_kind(problem.origin[0])} {problem.origin[1]}"
    name = (problem.place if problem.origin else "") or f"rule {problem.label or problem.rule or 'any'}"
    return f"port {problem.port}: {name}{origin}: {problem.text}"
