"""Turns planned needs into rules: which methods and paths each client may use at which pods.

Takes a plan. Returns rules that are independent of how they are written as objects. Clients that need the same at the
same pods share a rule. Pure.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from maesh_acl.suggesting.mesh import UDP, Group, Mesh
from maesh_acl.suggesting.paths import EVIDENCE, PathPattern, Template, build_patterns, build_prefix
from maesh_acl.suggesting.planning import HTTP, Evidence, Plan, Purpose, Request
from maesh_core.plugin import HttpMatch, ObjectKey, find_match_problem

EVERY_PATH = PathPattern("", "all", is_prefix=True)
"""For clients that have used more paths than were recorded."""
LONG_PATH_CHARACTERS = 1024
"""A path that is too long for a pattern is matched by its beginning."""
SHOWN_TEXTS = 5
MANY_PATHS = 50
"""A rule with more paths has a note about templates."""


class RequestRule(NamedTuple):
    """Requests that are allowed: a path pattern, and methods in order."""

    path: PathPattern
    methods: tuple[str, ...]


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """Access of clients to the pods of a service account. `requests` is empty for TCP and UDP."""

    clients: tuple[ObjectKey, ...]
    group: Group
    traffic_type: str
    requests: tuple[RequestRule, ...] = ()
    is_narrowed: bool
    """Whether the rule must name the port, because the same pods serve other ports too."""
    services: tuple[str, ...]
    """The keys of the service ports that the clients have called."""
    leaves: tuple[str, ...]
    """The keys of the service ports whose pods it opens, because they were needed."""
    also_opens: tuple[str, ...] = ()
    """The keys of further service ports that it opens, because their pods have the same service account."""
    count: int
    first: str
    last: str
    notes: tuple[str, ...] = ()


class PathOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How paths are generalised: the evidence that makes a variable (0: none), and templates that somebody wrote."""

    evidence: int = EVIDENCE
    templates: tuple[Template, ...] = ()


def build_rules(mesh: Mesh, plan: Plan, options: PathOptions) -> Sequence[Rule]:
    """Build the rules of a plan, sorted by the pods that they open."""
    patterns = {
        group: build_patterns(paths, evidence=options.evidence, templates=options.templates)
        for group, paths in plan.paths.items()
    }
    shared: dict[tuple[Group, str, tuple[RequestRule, ...]], list[tuple[Purpose, Evidence]]] = {}
    for purpose, evidence in plan.needs.items():
        requests = _build_requests(evidence.requests, patterns.get(purpose.group, {}))
        shared.setdefault((purpose.group, purpose.traffic_type, requests), []).append((purpose, evidence))
    return [
        _build_rule(mesh, group, traffic_type, requests, members)
        for (group, traffic_type, requests), members in shared.items()
    ]


def _build_requests(requests: Iterable[Request], patterns: Mapping[str, PathPattern]) -> tuple[RequestRule, ...]:
    """Build the requests of a rule: each pattern once, with all its methods."""
    methods: dict[PathPattern, set[str]] = {}
    for request in requests:
        if not request.is_cut:
            pattern = patterns[request.path]
        else:
            pattern = build_prefix(request.path) if request.path else EVERY_PATH
        if pattern.pattern and find_match_problem((HttpMatch(paths=(pattern.pattern,)),)) is not None:
            pattern = build_prefix(request.path[:LONG_PATH_CHARACTERS])
        methods.setdefault(pattern, set()).add(request.method)
    return tuple(RequestRule(pattern, tuple(sorted(methods[pattern]))) for pattern in sorted(methods))


def _build_rule(
    mesh: Mesh,
    group: Group,
    traffic_type: str,
    requests: tuple[RequestRule, ...],
    members: Sequence[tuple[Purpose, Evidence]],
) -> Rule:
    evidences = [evidence for _, evidence in members]
    clients = tuple(purpose.client for purpose, _ in members)
    leaves = tuple(sorted({leaf for each in evidences for leaf in each.leaves}))
    others = [
        other
        for port, other in mesh.find_served(group.account)
        if other.port != group.port and _is_opened(port.traffic_type, traffic_type)
    ]
    is_narrowed = bool(others) or traffic_type != HTTP
    rule = Rule(
        clients=clients,
        group=group,
        traffic_type=traffic_type,
        requests=requests,
        is_narrowed=is_narrowed,
        services=tuple(sorted({service for each in evidences for service in each.services})),
        leaves=leaves,
        count=sum(each.count for each in evidences),
        first=min((each.first for each in evidences if each.first), default=""),
        last=max(each.last for each in evidences),
    )
    rule = msgspec.structs.replace(rule, also_opens=_find_others(mesh, rule))
    return msgspec.structs.replace(rule, notes=tuple(_list_notes(rule)))


def _is_opened(port_type: str, rule_type: str) -> bool:
    """Whether a rule for a traffic type also opens ports of another: one for TCP opens HTTP."""
    if rule_type in (HTTP, UDP) or port_type == UDP:
        return port_type == rule_type
    return True


def _find_others(mesh: Mesh, rule: Rule) -> tuple[str, ...]:
    """Find the service ports that a rule opens although nobody called them."""
    found = {
        port.key
        for port, group in mesh.find_served(rule.group.account)
        if port.key not in rule.leaves
        and _is_opened(port.traffic_type, rule.traffic_type)
        and (not rule.is_narrowed or group.port == rule.group.port)
    }
    return tuple(sorted(found))


def _list_notes(rule: Rule) -> Iterator[str]:
    """List what a reader must know before the rule is applied: what else it opens, and how wide its paths are."""
    if rule.also_opens:
        yield f"it also opens {_join(rule.also_opens)}: their pods have the same service account {rule.group.account}"
    indirect = [leaf for leaf in rule.leaves if leaf not in rule.services]
    if indirect:
        yield f"it also opens {_join(indirect)} to direct calls, because routes send requests there"
    for client in rule.clients:
        if client.name == "default":
            yield f"every pod of namespace {client.namespace} without a service account of its own is {client}"
    if any(request.path == EVERY_PATH for request in rule.requests):
        yield "it allows every path, because more paths were called than were recorded"
    elif any(request.path.is_prefix for request in rule.requests):
        yield "it allows paths that only begin like a recorded one, because that was too long"
    templates = [request.path.label for request in rule.requests if request.path.is_template]
    if templates:
        yield f"paths with variables stand for several recorded ones: {_join(templates)}"
    if len(rule.requests) > MANY_PATHS:
        yield f"it has {len(rule.requests)} paths; --template /path/{{id}} combines those that differ in one segment"


def _join(texts: Sequence[str]) -> str:
    """Join texts for a note, the first ones of many."""
    rest = len(texts) - SHOWN_TEXTS
    return ", ".join(texts[:SHOWN_TEXTS]) + (f" and {rest} more" if rest > 0 else "")
