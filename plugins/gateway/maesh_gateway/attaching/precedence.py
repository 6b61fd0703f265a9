"""Orders the matches of all routes of one kind that a port uses.

Lower ranks decide first (reading/matching.py). Among equal ranks, the oldest route decides, then the order of the
names of namespaces and routes, of the rules in the route, and of the matches in the rule (HTTPRouteRule.matches). A
rule with several matches is compared once for each of them.
"""

from collections.abc import Iterable, Mapping, Sequence

from maesh_core.plugin import AnswerNode, BranchNode, OrderedMatch, RuleTable
from maesh_gateway.routes import Route


def build_table(routes: Sequence[tuple[Route, Mapping[int, BranchNode]]], no_match: AnswerNode) -> RuleTable:
    """Build the table of these routes, each with the branches of its rules by index."""
    ordered = sorted(routes, key=lambda each: each[0].age_key)
    positions: dict[tuple[int, int], int] = {}
    rules: list[BranchNode] = []
    for position, (_, branches) in enumerate(ordered):
        for index in sorted(branches):
            positions[position, index] = len(rules)
            rules.append(branches[index])
    matches = [
        (match.rank, position, rule.index, number, match.match)
        for position, (route, branches) in enumerate(ordered)
        for rule in route.rules
        if rule.index in branches
        for number, match in enumerate(rule.matches)
    ]
    matches.sort(key=lambda each: each[:4])
    order = tuple(OrderedMatch(match=match, rule=positions[route, index]) for _, route, index, _, match in matches)
    return RuleTable(no_match=no_match, rules=tuple(rules), order=order)


def choose_kind(routes: Iterable[Route]) -> type[Route] | None:
    """Choose the kind that a port uses: of those with a usable route the highest, else the highest of all."""
    found = list(routes)
    usable = [route for route in found if is_usable(route)]
    return max((type(route) for route in usable or found), key=lambda type_: type_.rank, default=None)


def is_usable(route: Route) -> bool:
    """Whether a route has no fault and at least one rule without a problem."""
    return not route.faults and (not route.rules or any(rule.problem is None for rule in route.rules))
