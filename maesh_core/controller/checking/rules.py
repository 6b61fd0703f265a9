"""Finds what is wrong with the rules of ports as a whole: rules and matches that never apply, and unusual weights.

Takes the nodes of all services; returns findings about the objects that define the rules. A rule that applies on one
port is not reported for another one.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from maesh_core.controller.checking.core_kinds import (
    IMPOSSIBLE_MATCH,
    NEVER_REACHED,
    REDUNDANT_MATCH,
)
from maesh_core.controller.checking.matches import covers, find_impossible
from maesh_core.controller.checking.shares import find_weight_problems
from maesh_core.model.keys import ObjectKey
from maesh_core.model.matches import HttpMatch
from maesh_core.model.resources import Resource
from maesh_core.model.topology import BranchNode, RuleTable, ServiceNode
from maesh_core.plugin_system.policy_checks import PolicyFinding
from maesh_core.plugin_system.rules import name_kind

COMPARISONS_LIMIT = 500_000
"""Limit of compared pairs of matches in one check; the rest is not compared. These take about a second."""

_Owner = tuple[type[Resource], ObjectKey]


class _Place(NamedTuple):
    """A rule or, with `match`, one match of it: the object, and the path of the field in it."""

    owner: _Owner
    field: str
    match: int = -1

    @property
    def shown(self) -> str:
        """The path for texts: `rules[1].matches[0]`."""
        return self.field.removeprefix("spec.")


class _Verdicts:
    """Results about rules and matches over all ports: one that applies on any port is not reported."""

    def __init__(self) -> None:
        self.reached: set[_Place] = set()
        self.hidden_rules: dict[_Place, tuple[str, ...]] = {}
        """The names of the rules that get the requests of a rule."""
        self.hidden_matches: dict[_Place, str] = {}
        """The name of the rule that gets the requests of a match, whose own rule is reached."""
        self.texts: dict[_Place, dict[str, str]] = {}
        self.comparisons = 0

    def note(self, place: _Place, code: str, text: str) -> None:
        """Note a text once."""
        self.texts.setdefault(place, {}).setdefault(text, code)


def check_rules(nodes: Iterable[ServiceNode]) -> Iterator[PolicyFinding]:
    """Check the rules of all ports of these services."""
    verdicts = _Verdicts()
    for node in nodes:
        for port in node.ports:
            for table in (*([port.rules] if port.rules else []), *port.consumers.values()):
                _check_order(table, verdicts)
                _check_table(table, verdicts)
    for place, names in verdicts.hidden_rules.items():
        if place not in verdicts.reached:
            verb = "get" if len(names) > 1 else "gets"
            text = f"it is never reached: {' and '.join(names)} {verb} all of its requests"
            yield _build(place, NEVER_REACHED.code, text)
    for place, name in verdicts.hidden_matches.items():
        if place not in verdicts.reached:
            yield _build(place, REDUNDANT_MATCH.code, f"it adds nothing: {name} gets all of its requests")
    for place, texts in verdicts.texts.items():
        yield from (_build(place, code, text) for text, code in texts.items())


def _build(place: _Place, code: str, text: str) -> PolicyFinding:
    type_, key = place.owner
    shown = f"{place.shown}: {text}" if place.field else text
    return PolicyFinding(code=code, type=type_, key=key, text=shown, place=place.field)


def _check_order(table: RuleTable, verdicts: _Verdicts) -> None:
    """Find the matches and rules that never apply because earlier ones get all of their requests."""
    earlier: list[tuple[HttpMatch, int]] = []
    matches: dict[int, dict[_Place, int | None]] = {}
    """For each rule: its matches, each with the earlier rule that gets all of its requests, or None."""
    for each in table.order:
        rule, found = table.rules[each.rule], _find_covering(each.match, earlier, verdicts)
        place = _find_place(rule)
        if place is not None:
            at = _locate_match(place, rule, each.match, is_again=(each.match, each.rule) in earlier)
            matches.setdefault(each.rule, {})[at] = found
        if found is None:
            earlier.append((each.match, each.rule))
    for index, found_matches in matches.items():
        place = _find_place(table.rules[index])
        if place is not None:
            _judge(table, place, found_matches, verdicts)


def _judge(table: RuleTable, place: _Place, matches: Mapping[_Place, int | None], verdicts: _Verdicts) -> None:
    """Note that a rule is reached, with its matches that add nothing, or that it is never reached."""
    names = {at: _name(table.rules[index], at, place) for at, index in matches.items() if index is not None}
    if len(names) == len(matches):
        verdicts.hidden_rules.setdefault(place, tuple(dict.fromkeys(names.values())))
        return
    verdicts.reached.add(place)
    for at in matches:
        if at in names:
            verdicts.hidden_matches.setdefault(at, names[at])
        else:
            verdicts.reached.add(at)


def _find_covering(match: HttpMatch, earlier: Iterable[tuple[HttpMatch, int]], verdicts: _Verdicts) -> int | None:
    """Find the rule of an earlier match that gets every request of this one."""
    for other, index in earlier:
        if verdicts.comparisons >= COMPARISONS_LIMIT:
            return None
        verdicts.comparisons += 1
        if covers(other, match):
            return index
    return None


def _check_table(table: RuleTable, verdicts: _Verdicts) -> None:
    for rule in table.rules:
        place = _find_place(rule)
        if place is None:
            continue
        for match in rule.matches:
            if reason := find_impossible(match):
                verdicts.note(
                    _locate_match(place, rule, match), IMPOSSIBLE_MATCH.code, f"it holds for no request: {reason}"
                )
        for problem in find_weight_problems(rule.backends, has_answer=not rule.backends or rule.keeps_idle):
            verdicts.note(place, *problem)


def _find_place(rule: BranchNode) -> _Place | None:
    """Find the place of a rule in its object; None if it has no object."""
    if rule.origin is None:
        return None
    index = rule.name.rpartition("/")[2]
    return _Place(rule.origin, f"spec.rules[{index}]" if index.isdecimal() else "")


def _locate_match(place: _Place, rule: BranchNode, match: HttpMatch, *, is_again: bool = False) -> _Place:
    """Locate a match in its rule; `is_again`: the second one, if the rule has it twice."""
    indexes = [index for index, each in enumerate(rule.matches) if each == match]
    if not indexes or not place.field or len(rule.matches) == 1:
        return place
    index = indexes[min(int(is_again), len(indexes) - 1)]
    return place._replace(field=f"{place.field}.matches[{index}]", match=index)


def _name(rule: BranchNode, at: _Place, place: _Place) -> str:
    """Name the rule that gets the requests of a match, which is `at` in the rule at `place`."""
    found = _find_place(rule)
    if found is None or rule.origin is None:
        return "an earlier rule"
    if found == place:
        return "an earlier match of the rule" if at != place else found.shown
    type_, key = rule.origin
    return found.shown if found.owner == place.owner else f"{found.shown} of {name_kind(type_)} {key}"
