"""Collects the errors and notices of the objects that an explanation examined.

Takes the topology and, if the controller has it, the list of `/api/objects`; returns remarks about the pods, services,
splits, targets and routes that concern one request, and no others.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from maesh_core.model.keys import ObjectKey

Identity = tuple[str, str, str]
"""Kind, namespace and name."""


class ObjectRemarks(msgspec.Struct, frozen=True, kw_only=True):
    """One object that an explanation examined, with its errors and notices, as in `/api/objects`."""

    kind: str
    namespace: str
    name: str
    errors: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()


def collect_remarks(
    topology: Mapping[str, Any],
    objects: Iterable[Mapping[str, Any]],
    *,
    service: ObjectKey,
    pods: Iterable[ObjectKey],
) -> tuple[ObjectRemarks, ...]:
    """Collect the errors and notices of what concerns a request to a service, the service's own first."""
    found: dict[Identity, dict[str, Any]] = {}
    services, splits = follow_splits(topology, str(service))
    for key, document in services.items():
        name, _, namespace = key.partition("@")
        _note(found, ("Service", namespace, name), document)
    for kind, where, name in _list_routes(topology["services"].get(str(service), {})):
        _note(found, (kind, where, name), {})
    for split in splits:
        _note(found, _identify("TrafficSplit", split), split)
    for target in topology.get("serviceTrafficTargets", {}).values():
        if target.get("service") in services:
            _note(found, _identify("TrafficTarget", target), target)
            for rule in target.get("rules", ()):
                _note(found, (str(rule.get("kind")), str(target.get("namespace")), str(rule.get("name"))), {})
    for pod in pods:
        _note(found, ("Pod", *pod), {})
    for each in objects:
        identity = _identify(str(each.get("kind")), each)
        if identity in found:
            _note(found, identity, each)
    remarks = (
        ObjectRemarks(kind=kind, namespace=where, name=name, **told) for (kind, where, name), told in found.items()
    )
    return tuple(each for each in remarks if each.errors or each.notices)


def follow_splits(
    topology: Mapping[str, Any], key: str
) -> tuple[dict[str, Mapping[str, Any]], Sequence[Mapping[str, Any]]]:
    """Find the services that may get a service's requests, and the splits on the way."""
    services: dict[str, Mapping[str, Any]] = {}
    ruled = [
        f"{each.get('service')}@{each.get('namespace')}" for each in _list_backends(topology["services"].get(key, {}))
    ]
    splits: dict[str, Mapping[str, Any]] = {}
    waiting = [key]
    while waiting:
        key = waiting.pop(0)
        document = topology["services"].get(key)
        if document is None or key in services:
            continue
        services[key] = document
        for name in document.get("trafficSplits", ()):
            split = topology.get("trafficSplits", {}).get(name)
            if split is not None:
                splits[name] = split
                waiting += [f"{each.get('service')}@{split.get('namespace')}" for each in split.get("backends", ())]
    services |= {each: topology["services"][each] for each in ruled if each in topology["services"]}
    return services, list(splits.values())


def _list_rules(service: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """List the rules of all ports of a service, those for clients of a namespace, too."""
    for port in service.get("ports", ()):
        tables = [*([port["rules"]] if "rules" in port else []), *port.get("consumers", {}).values()]
        for table in tables:
            yield from table["rules"]


def _list_backends(service: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """List the backends of all rules of a service, and those that get copies; their own rules do not apply."""
    for rule in _list_rules(service):
        yield from rule.get("backends", ())
    for port in service.get("ports", ()):
        yield from port.get("sideBackends", {}).values()


def _list_routes(service: Mapping[str, Any]) -> Iterator[Identity]:
    """List the objects that define the rules of a service."""
    for rule in _list_rules(service):
        if "kind" in rule:
            yield rule["kind"], rule["namespace"], rule["object"]


def _identify(kind: str, document: Mapping[str, Any]) -> Identity:
    return kind, str(document.get("namespace")), str(document.get("name"))


def _note(found: dict[Identity, dict[str, Any]], identity: Identity, document: Mapping[str, Any]) -> None:
    """Add the errors and notices of a document, each text once."""
    told = found.setdefault(identity, {"errors": (), "notices": ()})
    for what in told:
        told[what] = tuple(dict.fromkeys((*told[what], *map(str, document.get(what, ())))))
