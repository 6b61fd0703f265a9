"""Adds the rules of plugins' topology builders to the ports of a service, and contains what is wrong with them.

Takes additions and ports; returns ports with rules that can be sent to proxies. Whatever a rule contains concerns only
this rule: one that cannot be used answers with 500, and a table that is too large answers every request so. Only two
builders with rules for one port close the service. What a rule means is not known here.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import msgspec

from maesh_core.model.keys import is_label
from maesh_core.model.matching import find_match_problem
from maesh_core.model.schemes import SCHEMES
from maesh_core.model.topology import (
    AnswerNode,
    BackendNode,
    BranchNode,
    OrderedMatch,
    PortNode,
    PortRules,
    RuleProblem,
    RuleTable,
)
from maesh_core.plugin_system.hookspecs import Addition
from maesh_core.plugin_system.rules import SHARE_LIMIT
from maesh_core.process.printable import show_line

Place = tuple[int, str]
"""Number and protocol of a port."""

RULES_LIMIT = 1_000
"""Limit of the rules of one table: a route has at most 16, and a Service has few routes."""
MATCHES_LIMIT = 4_000
BACKENDS_LIMIT = 64
"""Limit of the backends of one rule, four times that of the Gateway API."""
CONSUMERS_LIMIT = 1_000
"""Limit of the namespaces whose clients have rules of their own for one port."""
SIDES_LIMIT = 1_000
NAME_LIMIT_CHARACTERS = 512
REASON_LIMIT_CHARACTERS = 1_024
"""Limit of a reason, which is sent as a header."""
_LABEL_LIMIT_CHARACTERS = 253

_match_name = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?(/[a-z0-9]([a-z0-9.-]*[a-z0-9])?)*").fullmatch


class PortAdditions:
    """What the builders of one service add to its ports. `errors` close the service.

    `traffic_types` are those that builders find, which apply where nothing else decides (traffic_types.py).
    """

    __slots__ = ("_owners", "_rules", "_sides", "errors", "traffic_types")

    def __init__(self) -> None:
        self._owners: dict[tuple[str, object], str] = {}
        self._rules: dict[Place, PortRules] = {}
        self._sides: dict[tuple[Place, str], BackendNode] = {}
        self.traffic_types: dict[Place, str] = {}
        self.errors: list[str] = []

    def add(self, name: str, addition: Addition) -> None:
        """Add what the builder of this name has built; what two builders claim is an error that names both."""
        for place, rules in addition.rules.items():
            self._claim(name, f"rules for port {place[0]} {place[1]}", self._rules, place, rules)
        for place, traffic_type in addition.traffic_types.items():
            if self.traffic_types.get(place) != traffic_type:
                what = f"a traffic type for port {place[0]} {place[1]}"
                self._claim(name, what, self.traffic_types, place, traffic_type)
        for place, backends in addition.side_backends.items():
            for side, backend in backends.items():
                self._claim(name, f"side backend {side} of port {place[0]}", self._sides, (place, side), backend)

    def _claim(self, name: str, what: str, found: dict[Any, Any], place: object, value: object) -> None:
        owner = self._owners.setdefault((what, place), name)
        if owner == name:
            found[place] = value
        else:
            self.errors.append(show_line(f"both {owner} and {name} define {what}"))

    def apply(self, port: PortNode) -> tuple[PortNode, tuple[RuleProblem, ...]]:
        """Add to a port what the builders have for it; return it with the problems of its rules."""
        place = (port.number, port.protocol)
        rules = self._rules.get(place)
        sides = {side: backend for (where, side), backend in self._sides.items() if where == place}
        if rules is None and not sides:
            return port, ()
        check = _Check(port)
        sides = _sort_sides(sides, rules)
        if rules is not None and (port.rules is not None or port.consumers):
            self.errors.append(f"several builders define rules for port {port.number} {port.protocol}")
        if rules is not None:
            port = msgspec.structs.replace(
                port,
                rules=None if rules.producer is None else check.check_table(rules.producer),
                consumers=check.check_consumers(rules.consumers),
            )
        changed = msgspec.structs.replace(
            port,
            side_backends={**port.side_backends, **check.check_sides(sides)},
        )
        return changed, tuple(check.problems)


class _Check:
    """Checks the rules of one port."""

    __slots__ = ("_namespace", "_port", "problems")

    def __init__(self, port: PortNode) -> None:
        self._port = port
        self._namespace = ""
        self.problems: list[RuleProblem] = []

    def check_consumers(self, tables: Mapping[str, RuleTable]) -> dict[str, RuleTable]:
        """Check the tables of consumers; one of a namespace that does not exist is left out: it has no clients."""
        found = {namespace: tables[namespace] for namespace in sorted(tables) if is_label(namespace)}
        checked = {}
        for number, (namespace, table) in enumerate(found.items(), 1):
            self._namespace = namespace
            if number > CONSUMERS_LIMIT:
                checked[namespace] = self._close_table(table, f"more than {CONSUMERS_LIMIT} namespaces have rules")
            else:
                checked[namespace] = self.check_table(table)
        self._namespace = ""
        return checked

    def check_sides(self, sides: Mapping[str, BackendNode]) -> dict[str, BackendNode]:
        """Check the backends that get copies; one that cannot be named is left out, so filters cannot refer to it."""
        named = [name for name in sides if _is_name(name)]
        return {name: _check_backend(sides[name]) for name in named[:SIDES_LIMIT]}

    def check_table(self, table: RuleTable) -> RuleTable:
        """Check a table; one that is too large answers every request with an error."""
        if len(table.rules) > RULES_LIMIT:
            return self._close_table(table, f"there are more than {RULES_LIMIT} rules")
        if len(table.order) > MATCHES_LIMIT:
            return self._close_table(table, f"there are more than {MATCHES_LIMIT} matches")
        taken: set[str] = set()
        rules = tuple(self._check_rule(index, rule, taken) for index, rule in enumerate(table.rules))
        return RuleTable(
            no_match=_check_answer(table.no_match), rules=rules, order=tuple(self._check_order(rules, table.order))
        )

    def _close_table(self, table: RuleTable, text: str) -> RuleTable:
        for origin in dict.fromkeys(rule.origin for rule in table.rules):
            self.problems.append(self._describe(BranchNode(name="", origin=origin), text))
        return RuleTable(no_match=AnswerNode(500, show_line(text)))

    def _check_rule(self, index: int, rule: BranchNode, taken: set[str]) -> BranchNode:
        """Check a rule; if it cannot be used, it answers with 500."""
        problem = None
        if not _is_name(rule.name) or rule.name in taken:
            problem = f"the name {rule.name[:64]!r} of a rule is not valid, or another rule has it"
            rule = msgspec.structs.replace(rule, name=f"unnamed/{index}")
        elif len(rule.backends) > BACKENDS_LIMIT:
            problem = f"there are more than {BACKENDS_LIMIT} backends"
        elif not all(0 <= backend.weight <= SHARE_LIMIT for backend in rule.backends):
            problem = "the weight of a backend is out of range"
        taken.add(rule.name)
        answer = rule.answer
        if problem is not None:
            self.problems.append(self._describe(rule, problem))
            answer = AnswerNode(500, "the rule cannot be used")
        return msgspec.structs.replace(
            rule,
            answer=None if answer is None else _check_answer(answer),
            backends=() if answer is not None else tuple(map(_check_backend, rule.backends)),
            filters=() if problem is not None else rule.filters,
            label=rule.label if _is_shown(rule.label) else "",
        )

    def _check_order(self, rules: Sequence[BranchNode], order: Sequence[OrderedMatch]) -> Iterator[OrderedMatch]:
        """Yield the matches that can be used; proxies would refuse all rules because of one that cannot."""
        for each in order:
            if not 0 <= each.rule < len(rules):
                continue
            problem = find_match_problem((each.match,)) or _find_text_problem(each)
            if problem is None:
                yield each
            else:
                self.problems.append(self._describe(rules[each.rule], f"a match is left out: {problem}"))

    def _describe(self, rule: BranchNode, text: str) -> RuleProblem:
        return RuleProblem(
            port=self._port.number,
            rule=rule.name,
            label=rule.label,
            origin=rule.origin,
            namespace=self._namespace,
            text=show_line(text),
        )


def _sort_sides(sides: Mapping[str, BackendNode], rules: PortRules | None) -> dict[str, BackendNode]:
    """Sort the backends that get copies: those that only rules for clients of other namespaces name are last.

    So these never push out others at the limit.
    """
    tables = () if rules is None else rules.consumers.values()
    foreign = {name for table in tables for name in _list_named(table)}
    if rules is not None and rules.producer is not None:
        foreign -= set(_list_named(rules.producer))
    return {name: sides[name] for name in sorted(sides, key=lambda each: (each in foreign, each))}


def _list_named(table: RuleTable) -> Iterator[str]:
    """List all texts in the values of a table's filters: the names of backends that get copies are among them."""
    for rule in table.rules:
        filters = chain(rule.filters, *(backend.filters for backend in rule.backends))
        yield from (value for each in filters for value in each.value.values() if isinstance(value, str))


def _check_backend(backend: BackendNode) -> BackendNode:
    """Return a backend that can be sent; one that cannot answers its share with 500."""
    if backend.answer is not None:
        return msgspec.structs.replace(backend, answer=_check_answer(backend.answer), port=None)
    if not (is_label(backend.service.name) and is_label(backend.service.namespace)):
        return _refuse_backend(backend, "the name of a backend is not a DNS label")
    if backend.protocol and backend.protocol not in SCHEMES:
        return _refuse_backend(backend, f"backend {backend.service} has an unknown protocol")
    return backend


def _refuse_backend(backend: BackendNode, reason: str) -> BackendNode:
    return msgspec.structs.replace(backend, answer=AnswerNode(500, reason), port=None)


def _check_answer(answer: AnswerNode) -> AnswerNode:
    """Return an answer with valid values; proxies refuse the whole configuration because of one that is not."""
    status, grpc_status = answer.status, answer.grpc_status
    checked = AnswerNode(
        status if 400 <= status <= 599 else 500,
        show_line(answer.reason)[:REASON_LIMIT_CHARACTERS],
        grpc_status if grpc_status is not None and 0 <= grpc_status <= 16 else None,
    )
    return answer if checked == answer else checked


def _is_name(name: str) -> bool:
    return len(name) <= NAME_LIMIT_CHARACTERS and _match_name(name) is not None


def _is_shown(label: str) -> bool:
    return len(label) <= _LABEL_LIMIT_CHARACTERS and label.isprintable()


def _find_text_problem(each: OrderedMatch) -> str | None:
    """Explain why texts of a match cannot be sent: they may contain halves of characters, which JSON cannot."""
    match = each.match
    texts = chain(
        match.methods,
        (match.exact_path, match.path_prefix),
        *((header.name, header.value or "") for header in match.headers),
        *((query.name, query.value or "") for query in match.queries),
    )
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        return "a text contains characters that cannot be sent"
    return None
