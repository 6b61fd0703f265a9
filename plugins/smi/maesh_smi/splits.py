"""Resolves a service's TrafficSplits, including nested ones, into branches: conditions, and leaf services with shares.

Takes a view and the node of the service that is split. Returns the branches of each port, and the splits as the
topology shows them. All nested splits are resolved here, so that a proxy selects a leaf's pod directly. An unusable
backend is ignored. A split that is unusable as a whole, or leads into a loop, is detached. Only requests that no split
matches go to the service's own pods.
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import product
from math import lcm
from typing import NamedTuple

from maesh_core.plugin import (
    BackendNode,
    BranchNode,
    ConfigurationError,
    HttpMatch,
    ObjectFindings,
    ObjectKey,
    PortNode,
    ServiceNode,
    TopologyView,
    combine_matches,
)
from maesh_smi.additions import SplitView, UnreadSplits
from maesh_smi.kinds import ROUTE_GROUP, SPLITS_BY_ROOT, HttpRouteGroup, TrafficSplit

BRANCH_LIMIT = 100
"""Maximum number of branches of one split on one port, because the matches of nested splits multiply."""
MATCH_LIMIT = 10_000
"""Maximum number of matches of one branch, because the matches of nested splits multiply."""
DEPTH_LIMIT = 20
"""Maximum depth of nested splits."""
WEIGHT_LIMIT = 2**31 - 1
"""Maximum weight of a leaf after fractional shares are converted to whole numbers."""
API_GROUP = "specs.smi-spec.io"

Matches = tuple[HttpMatch, ...]
Shares = dict[ObjectKey, Fraction]
ALWAYS: Matches = (HttpMatch(),)


class Plan(NamedTuple):
    """Requests that meet `matches` go to leaf services with these shares."""

    name: str
    matches: Matches
    shares: Shares


class Resolver:
    """The splits of one service, for one build. `errors` are by split."""

    def __init__(self, view: TopologyView, service: ServiceNode) -> None:
        self._view = view
        self._service = service
        self._nodes: dict[ObjectKey, ServiceNode | None] = {service.key: service}
        self._plans: dict[tuple[ObjectKey, int, str], tuple[Plan, ...]] = {}
        self.errors: dict[ObjectKey, list[str]] = {}
        self.shown: dict[ObjectKey, TrafficSplit] = {}
        self._unread: set[ObjectKey] = set()

    @property
    def unread(self) -> UnreadSplits | None:
        """The splits that cannot be read; None if all can."""
        return UnreadSplits(names=tuple(str(key) for key in sorted(self._unread))) if self._unread else None

    def build_branches(self, port: PortNode) -> tuple[BranchNode, ...]:
        """Build the branches of one port; empty if no split applies."""
        plans = list(self._plan(self._service.key, port, ()))
        if plans and plans[-1].shares == {self._service.key: Fraction(1)}:
            plans.pop()  # remaining requests go to the service itself
        return tuple(self._build_branch(plan, port) for plan in plans)

    def show(self) -> dict[str, SplitView]:
        """Show the splits of the service itself, with their errors."""
        return {str(key): self._show(split) for key, split in self.shown.items() if split.root == self._service.key}

    def list_errors(self) -> list[str]:
        """List the errors of all splits that concern the service, nested ones too."""
        return [f"TrafficSplit {key.name}: {text}" for key in sorted(self.errors) for text in self.errors[key]]

    def list_objects(self) -> tuple[ObjectFindings, ...]:
        """List the splits of the service itself with their errors; faults are reported where the split is read."""
        return tuple(
            ObjectFindings(type=TrafficSplit, key=key, errors=() if split.faults else tuple(self.errors.get(key, ())))
            for key, split in sorted(self.shown.items())
        )

    # --- plans

    def _plan(self, key: ObjectKey, port: PortNode, path: tuple[ObjectKey, ...]) -> tuple[Plan, ...]:
        """Return the plans for a service's requests on a port, in order; the last plan applies to all."""
        place = (key, port.number, port.protocol)
        if place not in self._plans:
            self._plans[place] = tuple(self._make_plans(key, port, path))
        return self._plans[place]

    def _make_plans(self, key: ObjectKey, port: PortNode, path: tuple[ObjectKey, ...]) -> Iterator[Plan]:
        for split in self._list_splits(key):
            if key == self._service.key:
                self.shown[split.key] = split
            if split.faults:
                self._unread.add(split.key)
                self._note(split, "; ".join(split.faults))
                continue
            if not self._check_loops(split, (*path, key)):
                continue
            try:
                matches = self._build_matches(split, port)
                plans = self._plan_split(split, matches, port, (*path, key))
            except ConfigurationError as error:
                self._note(split, str(error))
                continue
            yield from plans
            if matches == ALWAYS:
                return
        yield Plan("", ALWAYS, {key: Fraction(1)})

    def _plan_split(
        self, split: TrafficSplit, matches: Matches, port: PortNode, path: tuple[ObjectKey, ...]
    ) -> list[Plan]:
        """Combine the plans of the backends. A request uses the first plan of each backend that it meets.

        Adds one backend at a time, to check the limits before all combinations are built. Raises ConfigurationError at
        a limit, because a truncated split would send requests to the service's own pods.
        """
        weighted = [(key, weight) for key, weight in self._list_backends(split, port) if weight]
        total = sum(weight for _, weight in weighted)
        found: dict[Matches, Shares] = {matches: {}}
        for key, weight in weighted:
            plans = self._plan(key, port, path)
            before, found = found, {}
            for (conditions, shares), plan in product(before.items(), plans):
                combined = _combine(conditions, plan.matches)
                if not combined or combined in found:  # no request meets both, or an earlier plan matches all that do
                    continue
                if len(found) == BRANCH_LIMIT:
                    raise ConfigurationError(f"with its nested splits it has more than {BRANCH_LIMIT} branches")
                found[combined] = _add_shares(shares, plan.shares, weight / total)
        name = split.metadata.name
        return [
            Plan(f"{name}:{count}" if count > 1 else name, conditions, shares)
            for count, (conditions, shares) in enumerate(found.items(), 1)
        ]

    def _list_splits(self, key: ObjectKey) -> list[TrafficSplit]:
        """List a service's splits: those with matches first, because their requests are a subset of all requests.

        Unreadable splits come before them, because it is unknown whether they have matches.
        """
        splits = self._view.find(TrafficSplit, SPLITS_BY_ROOT, key)
        return sorted(splits, key=lambda split: (not split.faults, not split.spec.matches, split.metadata.name))

    def _check_loops(self, split: TrafficSplit, path: tuple[ObjectKey, ...]) -> bool:
        """Report a split that leads into a loop, whatever its weights; True where it leads into none."""
        loop = self._find_loop(split, path)
        if loop is None:
            return True
        if len(loop) > DEPTH_LIMIT:
            self._note(split, f"its nested splits are more than {DEPTH_LIMIT} levels deep")
        else:
            self._note(split, f"it leads into a loop: {' -> '.join(key.name for key in loop)}")
        return False

    def _find_loop(self, split: TrafficSplit, path: tuple[ObjectKey, ...]) -> tuple[ObjectKey, ...] | None:
        seen: set[ObjectKey] = set()

        def walk(current: TrafficSplit, way: tuple[ObjectKey, ...]) -> tuple[ObjectKey, ...] | None:
            for backend in current.spec.backends:
                key = ObjectKey(current.metadata.namespace, backend.service)
                if key in way:
                    return (*way[way.index(key) :], key)
                if len(way) > DEPTH_LIMIT:
                    return (*way, key)
                if key in seen:
                    continue
                seen.add(key)
                for below in self._list_splits(key):
                    found = None if below.faults else walk(below, (*way, key))
                    if found is not None:
                        return found
            return None

        return walk(split, path)

    def _build_matches(self, split: TrafficSplit, port: PortNode) -> Matches:
        if not split.spec.matches:
            return ALWAYS
        if self._service.get_traffic_type(port) != "http":
            raise ConfigurationError("matches apply only to the traffic type http")
        found: list[HttpMatch] = []
        for reference in split.spec.matches:
            if reference.kind not in ("", ROUTE_GROUP):
                raise ConfigurationError(f"kind {reference.kind!r} of a match is not {ROUTE_GROUP}")
            if reference.api_group not in (None, "", API_GROUP):
                raise ConfigurationError(f"apiGroup {reference.api_group!r} of a match is not {API_GROUP}")
            group = self._view.get(HttpRouteGroup, ObjectKey(split.metadata.namespace, reference.name))
            if group is None:
                raise ConfigurationError(f"there is no {ROUTE_GROUP} {reference.name}")
            if group.faults:
                self._unread.add(split.key)
            found += group.build_matches(reference.matches)
        return tuple(dict.fromkeys(found))

    def _list_backends(self, split: TrafficSplit, port: PortNode) -> Iterator[tuple[ObjectKey, Fraction]]:
        """List the usable backends with their weights, each service once."""
        weights: Shares = {}
        for backend in split.spec.backends:
            key = ObjectKey(split.metadata.namespace, backend.service)
            try:
                weight = backend.read_weight()
                self._find_port(key, port)
            except ConfigurationError as error:
                self._note(split, f"backend {backend.service}: {error}; it is ignored")
            else:
                weights[key] = weights.get(key, Fraction(0)) + weight
        return iter(weights.items())

    # --- services

    def _find_port(self, key: ObjectKey, port: PortNode) -> PortNode:
        """Find a backend's port of the same number; raises ConfigurationError."""
        node = self._get_node(key)
        if node is None:
            raise ConfigurationError("the service does not exist")
        if node.errors:
            raise ConfigurationError(f"the service has an error: {node.errors[0]}")
        place = (port.number, port.protocol)
        own = next((each for each in node.ports if (each.number, each.protocol) == place), None)
        theirs = node.traffic_type if own is None else node.get_traffic_type(own)
        if theirs != self._service.get_traffic_type(port):
            raise ConfigurationError(f"its traffic type is {theirs}, not {self._service.get_traffic_type(port)}")
        if own is None:
            raise ConfigurationError(f"it has no port {port.number} {port.protocol}")
        return own

    def _get_node(self, key: ObjectKey) -> ServiceNode | None:
        if key not in self._nodes:
            self._nodes[key] = self._view.build_service(key)
        return self._nodes[key]

    def _build_branch(self, plan: Plan, port: PortNode) -> BranchNode:
        denominator = lcm(*(share.denominator for share in plan.shares.values())) if plan.shares else 1
        weights = {key: int(share * denominator) for key, share in plan.shares.items()}
        largest = max(weights.values(), default=0)
        if largest > WEIGHT_LIMIT:  # shares too fine to be visible in any traffic
            weights = {key: max(1, weight * WEIGHT_LIMIT // largest) for key, weight in weights.items()}
        backends = []
        for key in sorted(weights):
            node = self._get_node(key)
            backends.append(
                BackendNode(
                    service=key,
                    weight=weights[key],
                    port=self._find_port(key, port),
                    annotations=node.annotations if node is not None else {},
                )
            )
        matches = () if plan.matches == ALWAYS else plan.matches
        return BranchNode(name=f"split/{plan.name}", matches=matches, backends=tuple(backends))

    # --- topology

    def _note(self, split: TrafficSplit, text: str) -> None:
        texts = self.errors.setdefault(split.key, [])
        if text not in texts:
            texts.append(text)

    def _show(self, split: TrafficSplit) -> SplitView:
        try:
            matches = self._build_matches(split, PortNode(number=1))
        except ConfigurationError:
            matches = ()
        return SplitView(
            name=split.metadata.name,
            namespace=split.metadata.namespace,
            service=split.spec.service,
            backends=tuple({"service": each.service, "weight": each.weight} for each in split.spec.backends),
            matches=() if matches == ALWAYS else matches,
            errors=tuple(self.errors.get(split.key, ())),
        )


def _add_shares(shares: Shares, more: Shares, factor: Fraction) -> Shares:
    """Add the shares of a backend's leaves, multiplied by the backend's share."""
    added = dict(shares)
    for leaf, part in more.items():
        added[leaf] = added.get(leaf, Fraction(0)) + factor * part
    return added


def _combine(one: Sequence[HttpMatch], other: Sequence[HttpMatch]) -> Matches:
    """Build the matches that hold if one of each side holds. Raises ConfigurationError if there are too many."""
    if len(one) * len(other) > MATCH_LIMIT:
        raise ConfigurationError(f"with its nested splits a branch has more than {MATCH_LIMIT} matches")
    pairs = (combine_matches(left, right) for left in one for right in other)
    return tuple(dict.fromkeys(pair for pair in pairs if pair is not None))
