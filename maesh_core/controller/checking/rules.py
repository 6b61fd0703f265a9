"""Finds what is wrong with the rules of ports as a whole: rules and matches that never apply, and unusual weights.

Takes the nodes of all services; returns findings about the objects that define the rules. A rule that applies on one
port is not reported for another one.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from maesh_core.controller.checking.core_kinds import (
    IMPOSSIBLE_MATCH,
    NEVER_REACHED,
    REDUNDANT_MATCH,
)
from maesh_core.controller.checking.matches import covers, find_impossible
from maesh_core.controller.checking.policy import EnginePolicy
from maesh_core.controller.checking.shares import find_weight_problems
from maesh_core.model.keys import ObjectKey
from maesh_core.model.matches import HttpMatch
from maesh_core.model.resources import Resource
from maesh_core.model.topology import BranchNode, RuleTable
from maesh_core.plugin_system.policy_checks import PolicyFinding
from maesh_core.plugin_system.rules import name_kind

COMPARISONS_LIMIT = 2_000_000
"""Limit of compared pairs of matches in one check; the rest is not compared. It takes about two seconds."""

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
    """What was found about rules and matches on all ports: what applies somewhere is not reported."""

    def __init__(self) -> None:
        self.reached: set[_Place] = set()
        self.covered: dict[_Place, tuple[str, str]] = {}
        self.texts: dict[_Place, dict[str, str]] = {}
        self.comparisons = 0

    def note(self, place: _Place, code: str, text: str) -> None:
        self.texts.setdefault(place, {}).setdefault(text, code)


def check_rules(policy: EnginePolicy) -> Iterator[PolicyFinding]:
    """Check the rules of all ports."""
    verdicts = _Verdicts()
    for node in policy.nodes.values():
        for port in node.ports:
            for table in (*([port.rules] if port.rules else []), *port.consumers.values()):
                _check_order(table, verdicts)
                _check_table(table, verdicts)
    for place, (code, text) in verdicts.covered.items():
        if place not in verdicts.reached:
            yield _build(place, code, text)
    for place, texts in verdicts.texts.items():
        for text, code in texts.items():
            yield _build(place, code, text)


def _build(place: _Place, code: str, text: str) -> PolicyFinding:
    type_, key = place.owner
    return PolicyFinding(code=code, type=type_, key=key, text=f"{place.shown}: {text}", place=place.field)


def _check_order(table: RuleTable, verdicts: _Verdicts) -> None:
    """Find the matches and rules whose requests earlier ones get."""
    earlier: list[tuple[HttpMatch, int]] = []
    waiting: set[int] = set()
    for each in table.order:
        rule = table.rules[each.rule]
        place = _find_place(rule)
        if place is None:
            earlier.append((each.match, each.rule))
            continue
        found = _find_covering(each.match, earlier, verdicts)
        match_place = _locate_match(place, rule, each.match)
        if found is None:
            waiting.add(each.rule)
            verdicts.reached |= {match_place, place}
            earlier.append((each.match, each.rule))
        else:
            name = "an earlier match of the rule" if found == each.rule else _name(table.rules[found], place)
            text = f"it adds nothing: {name} gets all of its requests"
            verdicts.covered.setdefault(match_place, (REDUNDANT_MATCH.code, text))
    covered = {each.rule for each in table.order} - waiting
    for index in sorted(covered):
        rule = table.rules[index]
        place = _find_place(rule)
        if place is not None:
            _cover_rule(table, index, place, verdicts)


def _cover_rule(table: RuleTable, index: int, place: _Place, verdicts: _Verdicts) -> None:
    """Report a rule of which no match is reached, in place of its matches."""
    rule = table.rules[index]
    names: dict[str, None] = {}
    for each in table.order:
        if each.rule == index:
            text = verdicts.covered.pop(_locate_match(place, rule, each.match), None)
            if text is not None:
                names[text[1].removeprefix("it adds nothing: ").removesuffix(" gets all of its requests")] = None
    others = " and ".join(names) or "earlier rules"
    verb = "get" if len(names) > 1 else "gets"
    verdicts.covered.setdefault(
        place, (NEVER_REACHED.code, f"it is never reached: {others} {verb} all of its requests")
    )


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
        for problem in find_weight_problems(rule.backends, has_answer=not rule.backends):
            verdicts.note(place, *problem)


def _find_place(rule: BranchNode) -> _Place | None:
    """Find the place of a rule in its object; None if it has no object."""
    if rule.origin is None:
        return None
    index = rule.name.rpartition("/")[2]
    return _Place(rule.origin, f"spec.rules[{index}]" if index.isdecimal() else "")


def _locate_match(place: _Place, rule: BranchNode, match: HttpMatch) -> _Place:
    index = rule.matches.index(match) if match in rule.matches else -1
    if index < 0 or not place.field or len(rule.matches) == 1:
        return place
    return place._replace(field=f"{place.field}.matches[{index}]", match=index)


def _name(rule: BranchNode, place: _Place) -> str:
    """Name a rule for a finding about a rule of the same or of another object."""
    found = _find_place(rule)
    if found is None or rule.origin is None:
        return "an earlier rule"
    type_, key = rule.origin
    return found.shown if found.owner == place.owner else f"{found.shown} of {name_kind(type_)} {key}"
