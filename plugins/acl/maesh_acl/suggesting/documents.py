"""Writes rules as objects: a TrafficTarget for each, with the HTTPRouteGroup, TCPRoute or UDPRoute that it names.

Takes rules; returns documents as in a manifest, with notes. A name ends with a hash of what the objects say, so that
applying them never replaces other objects, and the same traffic always results in the same objects. Pure.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from maesh_acl.granting.target_rules import HTTP_GROUP, TCP_ROUTE, UDP_ROUTE
from maesh_acl.kinds import SERVICE_ACCOUNT
from maesh_acl.suggesting.mesh import UDP
from maesh_acl.suggesting.planning import HTTP
from maesh_acl.suggesting.rules import RequestRule, Rule
from maesh_core.plugin import ObjectKey

TARGET_VERSION = "access.smi-spec.io/v1alpha3"
ROUTE_VERSION = "specs.smi-spec.io/v1alpha4"
HASH_CHARACTERS = 6
NAME_LIMIT_CHARACTERS = 200
MATCH_NAME_LIMIT_CHARACTERS = 50
GROUP_LIMIT = 500
"""Matches of one route group; further ones are in further groups. The plugin reads 1000 of a group."""

_OTHERS = re.compile(r"[^a-z0-9]+")

Document = Mapping[str, Any]


class Suggestion(msgspec.Struct, frozen=True, kw_only=True):
    """A rule as objects, ready to apply, and what it comes from."""

    name: str
    namespace: str
    rule: Rule
    documents: tuple[Document, ...]
    """The TrafficTarget is the last one."""


def build_suggestion(rule: Rule) -> Suggestion:
    """Write a rule as objects."""
    routes = _build_routes(rule)
    spec = {
        "destination": _build_account(rule.group.account)
        | ({"port": rule.group.port} if rule.is_narrowed and rule.traffic_type == HTTP else {}),
        "sources": [_build_account(client) for client in rule.clients],
    }
    namespace = rule.group.account.namespace
    name = _build_name(rule, [spec, routes])
    names = [name if number == 1 else f"{name}-{number}" for number in range(1, len(routes) + 1)]
    kind = _name_kind(rule.traffic_type)
    documents = [
        _build_document(ROUTE_VERSION, kind, each, namespace, route) for each, route in zip(names, routes, strict=True)
    ]
    rules = [{"kind": kind, "name": each} for each in names]
    documents.append(_build_document(TARGET_VERSION, "TrafficTarget", name, namespace, {**spec, "rules": rules}))
    return Suggestion(name=name, namespace=namespace, rule=rule, documents=tuple(documents))


def _build_document(version: str, kind: str, name: str, namespace: str, spec: Document) -> Document:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def _build_account(account: ObjectKey) -> dict[str, Any]:
    return {"kind": SERVICE_ACCOUNT, "name": account.name, "namespace": account.namespace}


def _name_kind(traffic_type: str) -> str:
    return HTTP_GROUP if traffic_type == HTTP else UDP_ROUTE if traffic_type == UDP else TCP_ROUTE


def _build_routes(rule: Rule) -> list[Document]:
    if rule.traffic_type != HTTP:
        return [{"matches": {"ports": [rule.group.port]}}]
    names: dict[str, int] = {}
    matches = [_build_match(request, names) for request in rule.requests]
    return [{"matches": matches[start : start + GROUP_LIMIT]} for start in range(0, len(matches), GROUP_LIMIT)]


def _build_match(request: RequestRule, names: dict[str, int]) -> dict[str, Any]:
    """Build a match with a name of its own."""
    base = _slugify("-".join([*(each.lower() for each in request.methods), request.path.label]))
    base = base[:MATCH_NAME_LIMIT_CHARACTERS].strip("-") or "match"
    number = names[base] = names.get(base, 0) + 1
    match: dict[str, Any] = {"name": base if number == 1 else f"{base}.{number}"}
    if request.path.pattern:
        match["pathRegex"] = request.path.pattern
    match["methods"] = list(request.methods)
    return match


def _build_name(rule: Rule, content: Sequence[Any]) -> str:
    """Build the name of a rule's objects: who reaches what, and a hash of the content."""
    account = rule.group.account
    callers = [
        client.name if client.namespace == account.namespace else f"{client.namespace}-{client.name}"
        for client in rule.clients
    ]
    caller = callers[0] if len(callers) == 1 else f"{len(callers)}-clients"
    services = sorted({leaf.partition("/")[2].partition(":")[0] for leaf in rule.leaves})
    called = services[0] if len(services) == 1 else account.name
    digest = hashlib.sha256(msgspec.json.encode([rule.traffic_type, *content], order="sorted")).hexdigest()
    base = _slugify(f"{caller}-to-{called}")[:NAME_LIMIT_CHARACTERS].strip("-")
    return f"{base}-{digest[:HASH_CHARACTERS]}"


def _slugify(text: str) -> str:
    return _OTHERS.sub("-", text.lower()).strip("-")
