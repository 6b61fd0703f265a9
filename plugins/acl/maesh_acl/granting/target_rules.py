"""Reads the rules of a TrafficTarget: the requests and ports that its route groups and routes allow.

Takes a view and a target; raises ConfigurationError if a rule names a missing object or has no meaning.
"""

from collections.abc import Iterable
from typing import Any

import msgspec
from maesh_smi.kinds import HttpRouteGroup, TcpRoute, UdpRoute

from maesh_acl.kinds import TrafficTarget
from maesh_core.plugin import ConfigurationError, HttpMatch, ObjectKey, TopologyView

HTTP_GROUP, TCP_ROUTE, UDP_ROUTE = "HTTPRouteGroup", "TCPRoute", "UDPRoute"


class TargetRules(msgspec.Struct, frozen=True):
    """The result of a target's rules: `matches` of HTTP (None: no path is allowed), and the pods' ports (None: all)."""

    matches: tuple[HttpMatch, ...] | None
    tcp_ports: frozenset[int] | None
    udp_ports: frozenset[int] | None
    opens_tcp: bool
    opens_udp: bool


def read_rules(view: TopologyView, target: TrafficTarget) -> TargetRules:
    """Read what the rules allow; raises ConfigurationError if one names a missing object.

    Without rules, every HTTP request is allowed, as in Maesh 1.x. TCP and UDP need a route of their own kind. With
    a route group, a TCPRoute only narrows the ports. Without one, it allows every path.
    """
    matches: list[HttpMatch] = []
    tcp: list[tuple[int, ...]] = []
    udp: list[tuple[int, ...]] = []
    kinds = [rule.kind for rule in target.rules]
    namespace = target.metadata.namespace
    for rule in target.rules:
        key = ObjectKey(namespace, rule.name)
        if rule.kind == HTTP_GROUP:
            matches += _get(view, HttpRouteGroup, key, rule.kind).build_matches(rule.matches)
        elif rule.kind == TCP_ROUTE:
            tcp.append(_get(view, TcpRoute, key, rule.kind).build_ports(rule.kind, rule.matches))
        elif rule.kind == UDP_ROUTE:
            udp.append(_get(view, UdpRoute, key, rule.kind).build_ports(rule.kind, rule.matches))
        else:
            raise ConfigurationError(f"a rule has the unknown kind {rule.kind!r}")
    opens_http = not kinds or HTTP_GROUP in kinds or TCP_ROUTE in kinds
    return TargetRules(
        matches=tuple(dict.fromkeys(matches)) if opens_http else None,
        tcp_ports=_join_ports(tcp),
        udp_ports=_join_ports(udp),
        opens_tcp=bool(tcp),
        opens_udp=bool(udp),
    )


def _get(view: TopologyView, type_: Any, key: ObjectKey, kind: str) -> Any:
    found = view.get(type_, key)
    if found is None:
        raise ConfigurationError(f"there is no {kind} {key.name} in namespace {key.namespace}")
    return found


def _join_ports(routes: Iterable[tuple[int, ...]]) -> frozenset[int] | None:
    """Join the ports of several routes; None (all) if one of them applies to all, or if there is none."""
    ports: set[int] = set()
    for found in routes:
        if not found:
            return None
        ports.update(found)
    return frozenset(ports) or None
