"""What `maesh check` reports about SMI's splits and route groups: the kinds of findings, and splits that never apply.

Takes all objects and the nodes of all services. The errors themselves are found where objects are read and resolved
(checking.py, splits.py); here they get their codes.
"""

from collections.abc import Iterable, Iterator, Sequence

from maesh_core.plugin import (
    ConfigurationError,
    FindingKind,
    HttpMatch,
    ObjectKey,
    PolicyFinding,
    PolicyView,
    ServiceNode,
)
from maesh_smi.kinds import HttpRouteGroup, TrafficSplit

SPLIT, GROUP = ("TrafficSplit",), ("HTTPRouteGroup",)
BRANCH = "split/"
"""How the names of branches begin (splits.py)."""
IMPOSSIBLE_MATCH = "MSH303"
"""A code of the core."""
IGNORED = "; it is ignored"
"""How an error ends that concerns only one backend of a split."""

MISSING_SERVICE = FindingKind(
    code="MSH401",
    severity="error",
    title="a TrafficSplit is for a Service that does not exist",
    hint="correct spec.service, or check the folder with the Service, too",
    patterns=("there is no service .*",),
    kinds=SPLIT,
)
FOREIGN_SERVICE = FindingKind(
    code="MSH402",
    severity="error",
    title="a TrafficSplit is for a Service of another namespace, so it has no effect",
    hint="move the split into the namespace of the Service",
    patterns=("service .* is in another namespace, so the split has no effect",),
    kinds=SPLIT,
)
USELESS_SPLIT = FindingKind(
    code="MSH403",
    severity="warning",
    title="a TrafficSplit has no effect, because the mesh does not route its Service",
    hint="remove the split, or give the Service a port",
    patterns=("it has no effect: .*",),
    kinds=SPLIT,
)
IGNORED_BACKEND = FindingKind(
    code="MSH404",
    severity="error",
    title="a backend of a TrafficSplit cannot be used, so the other backends get its share",
    hint="correct its name, port, traffic type or weight",
    patterns=(r"backend \S*: .*; it is ignored",),
    kinds=SPLIT,
)
DETACHED_SPLIT = FindingKind(
    code="MSH405",
    severity="error",
    title="the matches of a TrafficSplit cannot be used, so the split is detached",
    hint="correct the names in spec.matches, or the HTTPRouteGroup",
    patterns=(
        "there is no HTTPRouteGroup .*",
        "HTTPRouteGroup .*",
        "(?:kind|apiGroup) .* of a match is not .*",
        "matches apply only to .*",
    ),
    kinds=SPLIT,
)
SPLIT_LOOP = FindingKind(
    code="MSH406",
    severity="error",
    title="TrafficSplits lead into a loop, so they are detached",
    hint="remove one of the backends",
    patterns=("it leads into a loop: .*", "its nested splits are more than .*"),
    kinds=SPLIT,
)
SPLIT_LIMIT = FindingKind(
    code="MSH407",
    severity="error",
    title="nested TrafficSplits are too large together, so they are detached",
    hint="use fewer levels, or fewer matches",
    patterns=("with its nested splits .*",),
    kinds=SPLIT,
)
INVALID_GROUP = FindingKind(
    code="MSH408",
    severity="error",
    title="an HTTPRouteGroup has a match that cannot be used",
    hint="correct the pattern: it has the syntax of RE2",
    patterns=("HTTPRouteGroup .*",),
    kinds=GROUP,
)
HIDDEN_SPLIT = FindingKind(
    code="MSH409",
    severity="warning",
    title="a TrafficSplit is never reached, because other splits of the Service get all of its requests",
    hint="remove one of them: splits with matches apply first, and each kind in the order of names",
    patterns=("it has no effect: another TrafficSplit .* gets all of its requests",),
    kinds=SPLIT,
)
KINDS = (
    *(MISSING_SERVICE, FOREIGN_SERVICE, HIDDEN_SPLIT, USELESS_SPLIT, IGNORED_BACKEND, DETACHED_SPLIT, SPLIT_LOOP),
    *(SPLIT_LIMIT, INVALID_GROUP),
)


class GroupPolicyChecker:
    """Finds matches of route groups that hold for no request; acl reads route groups, too."""

    finding_kinds: Sequence[FindingKind] = (INVALID_GROUP,)

    def check(self, view: PolicyView) -> Iterator[PolicyFinding]:
        """Check each match of each group."""
        for group in view.list_objects(HttpRouteGroup):
            for index, each in enumerate(group.matches if not group.faults else ()):
                try:
                    reason = view.find_impossible(each.build())
                except ConfigurationError:
                    continue  # reported for the whole group
                if reason:
                    name = each.name or f"[{index}]"
                    yield PolicyFinding(
                        code=IMPOSSIBLE_MATCH,
                        type=HttpRouteGroup,
                        key=group.key,
                        text=f"match {name} holds for no request: {reason}",
                        place=f"spec.matches[{index}]",
                    )


class SplitPolicyChecker:
    """Finds splits that are never reached, and weights that cannot be met."""

    finding_kinds: Sequence[FindingKind] = tuple(kind for kind in KINDS if kind is not INVALID_GROUP)

    def check(self, view: PolicyView) -> Iterator[PolicyFinding]:
        """Check the splits of each service."""
        splits: dict[ObjectKey, list[TrafficSplit]] = {}
        for split in view.list_objects(TrafficSplit):
            if split.root is not None and not split.faults:
                splits.setdefault(split.root, []).append(split)
        for root, found in splits.items():
            node = view.nodes.get(root)
            if node is not None:
                yield from _check_order(view, node, found)
                yield from _check_weights(view, node)


def _check_order(view: PolicyView, node: ServiceNode, splits: Iterable[TrafficSplit]) -> Iterator[PolicyFinding]:
    """Find splits all of whose requests earlier ones get."""
    detached = {
        each.key
        for each in node.objects
        if each.type is TrafficSplit and any(not error.endswith(IGNORED) for error in each.errors)
    }
    earlier: list[tuple[HttpMatch, TrafficSplit]] = []
    for split in sorted(splits, key=lambda each: (not each.spec.matches, each.metadata.name)):
        matches = _read_matches(view, split)
        if split.key in detached or matches is None:
            continue
        covering = [next((other for known, other in earlier if view.covers(known, each)), None) for each in matches]
        is_reported = not split.spec.matches and any(not other.spec.matches for _, other in earlier)  # by checking.py
        if all(covering) and not is_reported:
            names = " and ".join(dict.fromkeys(str(each.key) for each in covering if each is not None))
            text = f"it is never reached: requests go by TrafficSplit {names}"
            yield PolicyFinding(code=HIDDEN_SPLIT.code, type=TrafficSplit, key=split.key, text=text)
        earlier += [(match, split) for match in matches]


def _read_matches(view: PolicyView, split: TrafficSplit) -> tuple[HttpMatch, ...] | None:
    """Read the matches of a split; None if they cannot be used, which is reported elsewhere."""
    if not split.spec.matches:
        return (HttpMatch(),)
    found: list[HttpMatch] = []
    for reference in split.spec.matches:
        group = view.get(HttpRouteGroup, ObjectKey(split.metadata.namespace, reference.name))
        if group is None or group.faults:
            return None
        try:
            found += group.build_matches(reference.matches)
        except ConfigurationError:
            return None
    return tuple(found)


def _check_weights(view: PolicyView, node: ServiceNode) -> Iterator[PolicyFinding]:
    """Find weights of leaves that cannot be met, on any port."""
    seen: set[tuple[str, str]] = set()
    for branch in (branch for port in node.ports for branch in port.branches if branch.name.startswith(BRANCH)):
        name = branch.name.removeprefix(BRANCH).partition(":")[0]
        for code, text in view.find_weight_problems(branch.backends):
            if (name, text) not in seen:
                seen.add((name, text))
                key = ObjectKey(node.key.namespace, name)
                yield PolicyFinding(code=code, type=TrafficSplit, key=key, text=text, place="spec.backends")
