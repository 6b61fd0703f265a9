"""Rules of plugins on the ports of a service: what one contains concerns only itself, whatever it is."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.controller.configuration.http import HttpTrafficType
from maesh_core.controller.topology import port_rules
from maesh_core.controller.topology.port_rules import PortAdditions
from maesh_core.model.configuration import HttpRouter, StreamRouter
from maesh_core.model.keys import ObjectKey
from maesh_core.model.matches import HeaderMatch, HttpMatch
from maesh_core.model.messages import parse_update, render_sections
from maesh_core.model.resources import Pod
from maesh_core.model.topology import (
    AnswerNode,
    BackendNode,
    BranchNode,
    FilterNode,
    OrderedMatch,
    PortNode,
    PortRules,
    RuleProblem,
    RuleTable,
    ServiceNode,
)
from maesh_core.plugin_system.hookspecs import Addition
from maesh_core.plugin_system.protocols import PortRange
from maesh_core.proxy.routing.checks import check_update

PLACE = (80, "TCP")
PORT = PortNode(number=80)
NO_MATCH = AnswerNode(404, "no rule matches")
ORIGIN = (Pod, ObjectKey("shop", "route"))
GOOD = BranchNode(name="good", backends=(BackendNode(service=ObjectKey("shop", "a"), weight=1, port=PORT),))


def make_table(*rules: BranchNode) -> RuleTable:
    return RuleTable(
        no_match=NO_MATCH,
        rules=rules,
        order=tuple(OrderedMatch(match=HttpMatch(), rule=index) for index, _ in enumerate(rules)),
    )


def apply(rules: PortRules, **fields: Any) -> tuple[PortNode, tuple[RuleProblem, ...]]:
    additions = PortAdditions()
    additions.add("a", Addition(rules={PLACE: rules}, **fields))
    return additions.apply(PORT)


def apply_rule(rule: BranchNode) -> tuple[BranchNode, tuple[RuleProblem, ...]]:
    port, problems = apply(PortRules(producer=make_table(GOOD, rule)))
    assert port.rules is not None
    assert port.rules.rules[0] == GOOD
    return port.rules.rules[1], problems


def test_valid_rules_are_added_unchanged() -> None:
    rules = PortRules(producer=make_table(GOOD), consumers={"test": make_table(GOOD)})
    port, problems = apply(rules)
    assert (port.rules, port.consumers, problems) == (rules.producer, rules.consumers, ())


@pytest.mark.parametrize("name", ["good", "", "a//b", "A", "a:b", "a@b", "../x", "x/" * 300 + "x"])
def test_a_rule_with_a_bad_name_answers_500_and_its_object_is_named(name: str) -> None:
    rule, problems = apply_rule(msgspec.structs.replace(GOOD, name=name, origin=ORIGIN))
    assert (rule.name, rule.answer) == ("unnamed/1", AnswerNode(500, "the rule cannot be used"))
    assert [(each.origin, each.rule) for each in problems] == [(ORIGIN, "unnamed/1")]


def test_a_rule_with_a_weight_out_of_range_answers_500() -> None:
    rule, problems = apply_rule(
        BranchNode(name="r", backends=(BackendNode(service=ObjectKey("shop", "a"), weight=-1, port=PORT),))
    )
    assert (rule.answer, rule.backends) == (AnswerNode(500, "the rule cannot be used"), ())
    assert problems[0].text == "the weight of a backend is out of range"


@pytest.mark.parametrize(
    "backend",
    [
        BackendNode(service=ObjectKey("shop", "a/b"), weight=1, port=PORT),
        BackendNode(service=ObjectKey("sh:op", "a"), weight=1, port=PORT),
        BackendNode(service=ObjectKey("shop", "a"), weight=1, port=PORT, protocol="smtp"),
    ],
)
def test_a_backend_that_cannot_be_named_answers_its_share_and_leaves_the_others(backend: BackendNode) -> None:
    rule, _ = apply_rule(BranchNode(name="r", backends=(*GOOD.backends, backend)))
    assert rule.answer is None
    assert rule.backends[0] == GOOD.backends[0]
    assert rule.backends[1].port is None
    assert rule.backends[1].answer is not None
    assert rule.backends[1].answer.status == 500


@pytest.mark.parametrize(
    "match",
    [
        HttpMatch(path_pattern="("),
        HttpMatch(headers=(HeaderMatch(name="a", value="x" * 5000),)),
        HttpMatch(path_prefix="/\ud800"),
    ],
)
def test_a_match_that_proxies_would_refuse_is_left_out_of_the_order(match: HttpMatch) -> None:
    table = RuleTable(
        no_match=NO_MATCH,
        rules=(GOOD, BranchNode(name="r", origin=ORIGIN)),
        order=(OrderedMatch(match=match, rule=1), OrderedMatch(match=HttpMatch(), rule=0)),
    )
    port, problems = apply(PortRules(producer=table))
    assert port.rules is not None
    assert port.rules.order == (OrderedMatch(match=HttpMatch(), rule=0),)
    assert problems[0].origin == ORIGIN


def test_a_table_that_is_too_large_answers_500_and_affects_no_other_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port_rules, "RULES_LIMIT", 2)
    large = make_table(*(BranchNode(name=str(index), origin=ORIGIN) for index in range(3)))
    port, problems = apply(PortRules(producer=make_table(GOOD), consumers={"test": large}))
    assert port.rules == make_table(GOOD)
    assert port.consumers == {"test": RuleTable(no_match=AnswerNode(500, "there are more than 2 rules"))}
    assert [(each.namespace, each.origin) for each in problems] == [("test", ORIGIN)]


def test_consumers_and_side_backends_with_names_that_cannot_exist_are_left_out() -> None:
    sides = {PLACE: {"good": GOOD.backends[0], "b:ad": GOOD.backends[0]}}
    port, _ = apply(PortRules(consumers={"te/st": make_table(GOOD)}), side_backends=sides)
    assert port.consumers == {}
    assert port.side_backends.keys() == {"good"}


def test_backends_that_only_other_namespaces_copy_to_push_out_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port_rules, "SIDES_LIMIT", 2)

    def make_mirror(side: str) -> RuleTable:
        node = FilterNode(name="Mirror", value={"backend": side})
        return make_table(BranchNode(name="r", filters=(node,), backends=GOOD.backends))

    rules = PortRules(producer=make_mirror("d"), consumers={"test": make_mirror("a"), "other": make_mirror("b")})
    sides = {PLACE: dict.fromkeys("abcd", GOOD.backends[0])}
    assert apply(rules, side_backends=sides)[0].side_backends.keys() == {"c", "d"}


def test_two_builders_with_rules_for_one_port_are_an_error_that_names_both() -> None:
    additions = PortAdditions()
    for name in ("one", "two"):
        additions.add(name, Addition(rules={PLACE: PortRules()}, traffic_types={PLACE: "tcp"}))
    assert additions.errors == ["both one and two define rules for port 80 TCP"]
    additions.add("three", Addition(traffic_types={PLACE: "udp"}))
    assert additions.errors[1:] == ["both one and three define a traffic type for port 80 TCP"]


_TEXTS = st.text(max_size=8)
_NUMBERS = st.integers(-(2**40), 2**40)
_ANSWERS = st.builds(AnswerNode, _NUMBERS, _TEXTS, st.none() | _NUMBERS)
_KEYS = st.builds(ObjectKey, _TEXTS, _TEXTS)
_BACKENDS = st.builds(
    BackendNode,
    service=_KEYS,
    weight=_NUMBERS,
    port=st.none() | st.just(PORT),
    answer=st.none() | _ANSWERS,
    protocol=_TEXTS,
)
_RULES = st.builds(
    BranchNode,
    name=_TEXTS,
    backends=st.lists(_BACKENDS, max_size=3).map(tuple),
    answer=st.none() | _ANSWERS,
    label=_TEXTS,
)
_MATCHES = st.builds(HttpMatch, path_prefix=_TEXTS, path_pattern=_TEXTS, methods=st.lists(_TEXTS).map(tuple))
_TABLES = st.builds(
    RuleTable,
    no_match=_ANSWERS,
    rules=st.lists(_RULES, max_size=3).map(tuple),
    order=st.lists(st.builds(OrderedMatch, match=_MATCHES, rule=st.integers(-2, 3)), max_size=3).map(tuple),
)


@given(
    rules=st.builds(PortRules, producer=st.none() | _TABLES, consumers=st.dictionaries(_TEXTS, _TABLES, max_size=2)),
    sides=st.dictionaries(_TEXTS, _BACKENDS, max_size=2),
)
def test_whatever_a_builder_returns_every_proxy_accepts_the_configuration(
    rules: PortRules, sides: dict[str, BackendNode]
) -> None:
    port, _ = apply(rules, side_backends={PLACE: sides})
    type_ = HttpTrafficType(PortRange(first=5000, limit=1, is_exclusive=False))
    node = ServiceNode(key=ObjectKey("shop", "cart"), traffic_type="http", ports=(port,))
    section = type_.build_section(node, {}, entrypoints=[(port, 5000)], middlewares=())
    raw = {
        "http": {
            noun: {key: msgspec.Raw(msgspec.json.encode(each)) for key, each in getattr(section, noun).items()}
            for noun in ("routers", "services", "middlewares")
        }
    }
    body = render_sections("e.1", raw, is_full=True, plugins=())
    check_update(parse_update(body, {"http": HttpRouter, "tcp": StreamRouter}))
