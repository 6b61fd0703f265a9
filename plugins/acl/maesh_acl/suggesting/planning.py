"""Finds the access that observed traffic needs beyond what is allowed already: who needs what at whose pods.

Takes the mesh and observations. Returns needs, one for each client and group of pods, and what was left out, with
reasons. Compares with existing rules by the service accounts of their sources, because addresses change. Pure.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from maesh_acl import Grant
from maesh_acl.suggesting.mesh import Group, Leaf, Mesh, ServicePort
from maesh_acl.suggesting.observation import Observation
from maesh_acl.suggesting.request_view import RequestView
from maesh_acl.suggesting.routes import RouteFinder
from maesh_core.plugin import ObjectKey, compile_matches, is_ambiguous

HTTP = "http"
_is_method = re.compile(r"[!#$%&'+.^_`|~0-9A-Za-z-]+").fullmatch
"""A token (RFC 9110 section 5.6.2) without `*`, which means every method in rules."""


class Request(NamedTuple):
    """A kind of requests that must be allowed; an empty `path` with `is_cut` means every path."""

    method: str
    path: str
    is_cut: bool = False


class Purpose(NamedTuple):
    """Who needs access to which pods, and for which traffic type."""

    client: ObjectKey
    group: Group
    traffic_type: str


class Evidence(msgspec.Struct, kw_only=True):
    """The traffic that a need comes from: requests by their number, the service ports called, and when."""

    requests: dict[Request, int] = {}
    services: set[str] = set()
    """The keys of the service ports that the client called."""
    leaves: set[str] = set()
    """The keys of the service ports whose pods must be reached."""
    count: int = 0
    first: str = ""
    last: str = ""

    def add(self, observation: Observation, leaf: Leaf) -> None:
        """Add what was observed."""
        self.services.add(observation.service)
        self.leaves.add(leaf.key)
        self.count += observation.count
        if observation.first and (not self.first or observation.first < self.first):
            self.first = observation.first
        self.last = max(self.last, observation.last)
        if observation.traffic_type == HTTP:
            request = Request(observation.method, observation.path, observation.is_cut)
            self.requests[request] = self.requests.get(request, 0) + observation.count


class LeftOut(msgspec.Struct, frozen=True, kw_only=True):
    """Observations without a suggestion: why, how many requests, and one of them as an example."""

    reason: str
    count: int
    example: str


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The needs, what was left out, the number of requests that are allowed already, and all paths that were seen."""

    needs: Mapping[Purpose, Evidence]
    left_out: tuple[LeftOut, ...]
    allowed: int
    paths: Mapping[Group, frozenset[str]]
    """The whole paths that any client has called at a group of pods, as evidence for templates."""


class Planner:
    """Collects needs from observations."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._routes = RouteFinder()
        self._needs: dict[Purpose, Evidence] = {}
        self._left_out: dict[str, LeftOut] = {}
        self._paths: dict[Group, set[str]] = {}
        self._allowed = 0
        self._predicates: dict[tuple[object, ...], Callable[[object], bool]] = {}

    def add(self, observation: Observation) -> None:
        """Add an observation."""
        problem = self._find_problem(observation)
        if problem is not None:
            self._leave_out(problem, observation)
            return
        port = self._mesh.find_port(observation.service, observation.traffic_type)
        assert port is not None and observation.client is not None  # noqa: S101, PT018 - or there was a problem
        leaves = self._select_leaves(port, observation)
        is_allowed = True
        for leaf in leaves:
            for group, servers in leaf.groups.items():
                if observation.traffic_type == HTTP and not observation.is_cut:
                    self._paths.setdefault(group, set()).add(observation.path)
                if self._is_covered(leaf.grants, observation, servers):
                    continue
                is_allowed = False
                purpose = Purpose(observation.client, group, observation.traffic_type)
                self._needs.setdefault(purpose, Evidence()).add(observation, leaf)
        if is_allowed:
            self._allowed += observation.count

    def build(self) -> Plan:
        """Return the plan, sorted."""
        return Plan(
            needs=dict(sorted(self._needs.items())),
            left_out=tuple(sorted(self._left_out.values(), key=lambda each: (-each.count, each.reason))),
            allowed=self._allowed,
            paths={group: frozenset(paths) for group, paths in self._paths.items()},
        )

    def _find_problem(self, observation: Observation) -> str | None:
        """Explain why no rule can allow an observation; None if one can."""
        if observation.client is None:
            return "the client has no service account that the mesh knows"
        port = self._mesh.find_port(observation.service, observation.traffic_type)
        if port is None:
            return f"the mesh has no {observation.traffic_type} service port {observation.service}"
        if port.traffic_type != observation.traffic_type:
            return f"service port {port.key} is {port.traffic_type} now, and not {observation.traffic_type}"
        leaves = self._select_leaves(port, observation)
        if not leaves:
            return f"service port {port.key} has no route {observation.destination or port.key} now"
        if not any(leaf.groups for leaf in leaves):
            return f"service port {port.key} has no servers with a service account now, and rules apply to nothing else"
        return _find_request_problem(observation) if observation.traffic_type == HTTP else None

    def _select_leaves(self, port: ServicePort, observation: Observation) -> Sequence[Leaf]:
        """Select the leaves that the client must be allowed to reach."""
        routes: Iterable[str] = self._routes.find(port, observation)
        if not routes and observation.leaves:  # the report names them, although the route has changed
            routes = port.destinations
        found = [leaf for route in routes for leaf in port.destinations[route]]
        if observation.leaves:
            found = [leaf for leaf in found if str(leaf.service) in observation.leaves]
        return list({(leaf.key, leaf.grants): leaf for leaf in found}.values())

    def _is_covered(
        self, grants: Iterable[Grant], observation: Observation, servers: frozenset[tuple[str, int]]
    ) -> bool:
        """Whether existing rules allow the client to send this to all these servers."""
        missing = set(servers)
        for grant in grants:
            assert observation.client is not None  # noqa: S101
            if self._mesh.names_source(grant, observation.client) and self._holds(grant, observation):
                if grant.servers is None:
                    return True
                missing -= set(grant.servers)
        return not missing

    def _holds(self, grant: Grant, observation: Observation) -> bool:
        if not grant.matches:
            return True
        if observation.traffic_type != HTTP or observation.is_cut:
            return False
        predicate = self._predicates.get(grant.matches)
        if predicate is None:
            predicate = self._predicates[grant.matches] = compile_matches(grant.matches)
        return predicate(RequestView(observation))

    def _leave_out(self, reason: str, observation: Observation) -> None:
        known = self._left_out.get(reason)
        count = observation.count + (known.count if known is not None else 0)
        example = known.example if known is not None else describe(observation)
        self._left_out[reason] = LeftOut(reason=reason, count=count, example=example)


def plan_access(mesh: Mesh, observations: Iterable[Observation]) -> Plan:
    """Plan the access that all of these observations need."""
    planner = Planner(mesh)
    for observation in observations:
        planner.add(observation)
    return planner.build()


def describe(observation: Observation) -> str:
    """Describe an observation on one line; the text is not safe for a terminal."""
    client = str(observation.client) if observation.client is not None else observation.address or "an unknown client"
    if observation.traffic_type != HTTP:
        return f"{client} to {observation.service}"
    return f"{client} to {observation.service}: {observation.method} {observation.path}"


def _find_request_problem(observation: Observation) -> str | None:
    """Explain why no rule can allow a request; None if one can."""
    method = observation.method
    if not _is_method(method):  # `*` would allow every method
        return "rules cannot name its method"
    if method != method.upper():
        return "rules write methods in upper case, so they cannot allow this one"
    if is_ambiguous(observation.path.encode("utf-8", "replace")):
        return "the path is ambiguous, and rules with paths never allow that"
    return None
