"""Finds the cluster addresses that mean one service: its own ones, and those of its shadow service.

Takes a View, a Service and the rules; returns addresses in canonical form. An address that another service also has
means neither, because a request to it must never reach a service that its client did not call. Without a cluster there
are no shadow services, and what looks like one is not read.
"""

from collections.abc import Iterable, Iterator

from maesh_core.controller.topology.rules import TopologyRules, is_ignored_service
from maesh_core.model.addresses import parse_address
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import Service
from maesh_core.model.shadow_names import build_name, find_original
from maesh_core.plugin_system.interfaces import View

HEADLESS = "None"
"""The cluster address of a headless service (Kubernetes API)."""
_ADDRESS_INDEX = "address"
"""Services by their cluster addresses (resources/kinds.py)."""


def read_cluster_ips(view: View, service: Service, rules: TopologyRules, notices: list[str]) -> tuple[str, ...]:
    """Read the cluster addresses of a service; a notice explains each that is not used."""
    addresses = []
    for text in _list_texts(service):
        address = parse_address(text)
        if address is None:
            notices.append(f"cluster address {text!r} is not an IP address and is ignored")
            continue
        other = _find_other(view, address, service.key, rules)
        if other is not None:
            notices.append(f"cluster address {address} is also that of Service {other}, so it is used for neither")
        else:
            addresses.append(address)
    return tuple(dict.fromkeys(addresses))


def read_shadow_ips(view: View, key: ObjectKey, rules: TopologyRules) -> tuple[str, ...]:
    """Read the cluster addresses of a service's shadow service; none if it has no shadow service yet."""
    if not rules.has_shadows:
        return ()
    namespace = rules.mesh_namespace
    shadow = view.get(Service, ObjectKey(namespace, build_name(namespace, key)))
    if shadow is None or find_original(shadow, namespace) != key:
        return ()
    addresses = filter(None, map(parse_address, _list_texts(shadow)))
    return tuple(dict.fromkeys(each for each in addresses if _find_other(view, each, key, rules) is None))


def _list_texts(service: Service) -> Iterator[str]:
    texts: Iterable[str] = dict.fromkeys((service.spec.cluster_ip, *service.spec.cluster_ips))
    return (text for text in texts if text and text != HEADLESS)


def _find_other(view: View, address: str, key: ObjectKey, rules: TopologyRules) -> ObjectKey | None:
    """Find another service that this address also means: a user's one, or the one of a shadow service."""
    for each in view.find(Service, _ADDRESS_INDEX, address):
        original = find_original(each, rules.mesh_namespace) if rules.has_shadows else None
        if original is None and is_ignored_service(each, rules):
            continue
        meant = original or each.key
        if meant != key:
            return meant
    return None
