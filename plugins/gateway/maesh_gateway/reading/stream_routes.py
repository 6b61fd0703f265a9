"""Reads TCPRoutes and UDPRoutes, which have one rule without matches.

Takes the fields of an object without its metadata; returns the route. Raises nothing. A rule that cannot be used is
dropped: the port is then closed, unless another route is attached to it. Further rules, which v1alpha2 allows, would
never get a connection.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from maesh_core.plugin import ObjectMeta, decode_strictly, is_label, is_subdomain
from maesh_gateway.reading.filters import FilterError, read_backend
from maesh_gateway.reading.request_routes import find_ungrouped, read_parents
from maesh_gateway.reading.shapes import StreamRouteShape, StreamRuleShape
from maesh_gateway.routes import (
    BackendRef,
    Route,
    RouteMatch,
    RouteRule,
    RuleProblem,
    TcpRoute,
    UdpRoute,
)

RouteT = TypeVar("RouteT", bound=Route)
_ALL = (RouteMatch(),)


def read_tcp_route(metadata: ObjectMeta, fields: Mapping[str, object]) -> TcpRoute:
    """Read a TCPRoute."""
    return _read_route(metadata, fields, TcpRoute)


def read_udp_route(metadata: ObjectMeta, fields: Mapping[str, object]) -> UdpRoute:
    """Read a UDPRoute."""
    return _read_route(metadata, fields, UdpRoute)


def _read_route(metadata: ObjectMeta, fields: Mapping[str, object], type_: type[RouteT]) -> RouteT:
    shape, found = decode_strictly(fields, StreamRouteShape)
    faults = list(found)
    if not (is_subdomain(metadata.name) and is_label(metadata.namespace)):
        faults.append("metadata: its name or namespace is not one that an object can have")
    written: Sequence[Any] = () if isinstance(shape.spec.rules, msgspec.UnsetType) else shape.spec.rules
    if not faults and not written:
        faults.append("spec.rules: it is required")
    rules = () if faults else tuple(_read_rule(rule, index, metadata) for index, rule in enumerate(written))
    parents = read_parents(fields, metadata.namespace)
    ungrouped = find_ungrouped(fields)
    return type_(metadata=metadata, parents=parents, rules=rules, faults=tuple(faults), ungrouped=ungrouped)


def _read_rule(written: Any, index: int, metadata: ObjectMeta) -> RouteRule:
    place = f"rules[{index}]"
    if index:
        return _drop(index, f"{place}: it has no effect, because the first rule gets all connections")
    if not isinstance(written, Mapping) or not all(isinstance(name, str) for name in written):
        return _drop(index, f"{place}: it is not an object with fields")
    shape, faults = decode_strictly(written, StreamRuleShape)
    if faults:
        return _drop(index, f"{place}.{faults[0]}")
    if shape.name and not is_subdomain(shape.name):
        return _drop(index, f"{place}.name: {shape.name[:80]!r} is not a valid name")
    if not shape.backend_refs:
        return _drop(index, f"{place}.backendRefs: it is required")
    try:
        backends = tuple(_read_backends(shape, place, metadata.namespace))
    except FilterError as error:
        return _drop(index, str(error))
    return RouteRule(index=index, label=shape.name, matches=_ALL, backends=backends)


def _read_backends(shape: StreamRuleShape, place: str, namespace: str) -> list[BackendRef]:
    """Read the backends of a rule. Raises FilterError."""
    return [
        read_backend(each, namespace=namespace, place=f"{place}.backendRefs[{index}]", weight=each.weight)
        for index, each in enumerate(shape.backend_refs)
    ]


def _drop(index: int, text: str) -> RouteRule:
    problem = RuleProblem(rule=index, reason="UnsupportedValue", text=text, is_dropped=True)
    return RouteRule(index=index, problem=problem)
