"""Filters of rules become middlewares: where they are in the chain, which share one, and what happens if one fails."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.controller.configuration.builder import build_service_configuration
from maesh_core.controller.configuration.catalogue import Catalogue
from maesh_core.controller.configuration.http import HttpTrafficType
from maesh_core.errors import ConfigurationError
from maesh_core.model.configuration import Answer, HttpRouter, Section, ServiceConfiguration
from maesh_core.model.keys import ObjectKey
from maesh_core.model.matches import HttpMatch
from maesh_core.model.resources import Pod
from maesh_core.model.topology import (
    AnswerNode,
    BackendNode,
    BranchNode,
    FilterNode,
    OrderedMatch,
    PortNode,
    RuleTable,
    ServerNode,
    ServiceNode,
)
from maesh_core.plugin_system.hookspecs import FilterRequest, Stage
from maesh_core.plugin_system.protocols import PortRange

KEY, P = ObjectKey("shop", "cart"), "shop/cart:80"
ORIGIN = (Pod, ObjectKey("shop", "route"))
GUARD = "shop/cart/guard"
HTTP = HttpTrafficType(PortRange(first=5000, limit=10, is_exclusive=False))


class Filtering:
    """A middleware that an annotation and a filter of the same name configure."""

    def __init__(self, kind: str, stage: Stage, *, is_single: bool = True) -> None:
        self.kind, self.stage, self.is_single = kind, stage, is_single
        self.annotations: tuple[str, ...] = (kind,)
        self.filters: tuple[str, ...] = (kind.title(),)
        self.asked: list[Sequence[FilterRequest]] = []

    def build_settings(self, annotations: Mapping[str, str], service: ServiceNode) -> Mapping[str, Any] | None:
        return {"own": annotations[self.kind]} if annotations else None

    def build_filter(self, requests: Sequence[FilterRequest], service: ServiceNode) -> Mapping[str, Any] | None:
        self.asked.append(requests)
        values = [request.value for request in requests]
        if {"bad": 1} in values:
            raise ConfigurationError(f"{self.kind} is bad")
        if {"boom": 1} in values:
            raise RuntimeError("boom")
        return None if {"none": 1} in values else {"filters": values}


class Guard:
    kind = "guard"
    stage = Stage.ADMISSION
    annotations = ()

    def build_settings(self, annotations: Mapping[str, str], service: ServiceNode) -> Mapping[str, Any]:
        return {"allow": []}


def make_filter(kind: str, **value: Any) -> FilterNode:
    return FilterNode(name=kind.title(), value=value)


def make_backend(name: str, *filters: FilterNode) -> BackendNode:
    port = PortNode(number=80, servers=(ServerNode(address="10.0.0.1", port=80),))
    return BackendNode(service=ObjectKey("shop", name), weight=1, port=port, filters=filters)


def make_rule(name: str, *filters: FilterNode, backends: Sequence[BackendNode] = (), **fields: Any) -> BranchNode:
    backends = tuple(backends) or (make_backend("old"),)
    return BranchNode(name=name, filters=filters, backends=backends, origin=ORIGIN, keeps_shares=True, **fields)


def make_table(*rules: BranchNode) -> RuleTable:
    order = tuple(OrderedMatch(match=HttpMatch(path_prefix=f"/{each.name}"), rule=at) for at, each in enumerate(rules))
    return RuleTable(no_match=AnswerNode(404, "none"), rules=rules, order=order)


def build(*rules: BranchNode, builders: Sequence[Any] = (), **annotations: str) -> ServiceConfiguration:
    port = PortNode(number=80, rules=make_table(*rules))
    node = ServiceNode(
        key=KEY,
        traffic_type="http",
        ports=(port,),
        annotations={f"maesh.containo.us/{name}": value for name, value in annotations.items()},
    )
    known = builders or (Filtering("outer", Stage.LIMIT), Filtering("inner", Stage.SHAPE, is_single=False))
    return build_service_configuration(node, catalogue=Catalogue([HTTP], [Guard(), *known]), entrypoints={})


def get_chain(section: Section, rule: int = 0) -> list[str]:
    router = section.routers[P]
    assert isinstance(router, HttpRouter)
    assert router.rules is not None
    return show_chain(router.rules.rules[rule].middlewares)


def show_chain(keys: Sequence[str]) -> list[str]:
    """Show the middlewares of filters by their kind."""
    return [key.rpartition("/")[0].replace("shop/cart/", "filter ") if key.count("/") == 3 else key for key in keys]


def test_filters_are_in_the_chain_by_stage_and_kind_whatever_their_order() -> None:
    configuration = build(make_rule("r", make_filter("inner"), make_filter("outer")))
    assert get_chain(configuration.sections["http"]) == [GUARD, "filter outer", "filter inner"]
    assert configuration.errors == configuration.notices == ()


def test_a_single_filter_replaces_the_services_own_and_others_are_inside_of_it() -> None:
    configuration = build(
        make_rule("r", make_filter("inner"), make_filter("outer")), make_rule("plain"), outer="a", inner="b"
    )
    section = configuration.sections["http"]
    assert get_chain(section) == [GUARD, "filter outer", "shop/cart/inner", "filter inner"]
    assert get_chain(section, 1) == [GUARD, "shop/cart/outer", "shop/cart/inner"]


def test_a_single_filter_that_needs_no_middleware_still_replaces_the_services_own() -> None:
    section = build(make_rule("r", make_filter("outer", none=1)), outer="a").sections["http"]
    assert get_chain(section) == [GUARD]


def test_all_filters_of_one_kind_are_one_middleware_in_their_order_with_what_the_builder_may_need() -> None:
    builder = Filtering("inner", Stage.SHAPE)
    section = build(make_rule("r", make_filter("inner", a=1), make_filter("inner", b=2)), builders=[builder]).sections[
        "http"
    ]
    assert [each.settings for each in section.middlewares.values() if each.kind == "inner"] == [
        {"filters": [{"a": 1}, {"b": 2}]}
    ]
    ((first, second),) = builder.asked
    assert (first.name, first.value, second.value) == ("Inner", {"a": 1}, {"b": 2})
    assert (first.matches, first.rule) == ((HttpMatch(path_prefix="/r"),), f"{P}/rule/r")
    assert first.port.number == 80


def test_rules_with_equal_filters_share_a_middleware() -> None:
    section = build(*(make_rule(str(index), make_filter("inner", a=1)) for index in range(10))).sections["http"]
    assert len(section.middlewares) == 2


def test_filters_of_a_backend_are_inside_of_those_of_its_rule_and_only_its_part_has_them() -> None:
    backends = [make_backend("old"), make_backend("new", make_filter("inner", b=1))]
    section = build(make_rule("r", make_filter("inner", a=1), backends=backends), inner="x").sections["http"]
    old, new = section.services[f"{P}/rule/r"].parts
    assert old.middlewares == ()
    assert show_chain(new.middlewares) == [GUARD, "shop/cart/inner", "filter inner", "filter inner"]
    settings = [section.middlewares[key].settings for key in new.middlewares[2:]]
    assert settings == [{"filters": [{"a": 1}]}, {"filters": [{"b": 1}]}]


def test_filters_of_a_backend_act_after_all_filters_of_its_rule_whatever_their_kinds() -> None:
    backends = [make_backend("new", make_filter("outer", b=1))]
    section = build(make_rule("r", make_filter("inner", a=1), backends=backends)).sections["http"]
    (part,) = section.services[f"{P}/rule/r"].parts
    assert show_chain(part.middlewares) == [GUARD, "filter inner", "filter outer"]


def test_a_backend_that_a_rule_names_twice_with_other_filters_has_two_parts() -> None:
    backends = [make_backend("old", make_filter("inner", number=number)) for number in (1, 2, 1)]
    section = build(make_rule("r", backends=backends)).sections["http"]
    one, two = section.services[f"{P}/rule/r"].parts
    assert (one.service, one.weight) == (f"{P}/backend/shop/old:80", 2)
    assert (two.service, two.weight) == (f"{P}/backend/shop/old:80/2", 1)
    assert one.middlewares != two.middlewares


@pytest.mark.parametrize(
    ("node", "reason", "text"),
    [
        (make_filter("inner", bad=1), "inner is bad", "Inner: inner is bad"),
        (
            make_filter("unknown"),
            "a filter of the route cannot be used",
            "no enabled plugin builds filter Unknown",
        ),
        (
            make_filter("inner", boom=1),
            "a filter of the route cannot be used",
            "Inner could not be built: RuntimeError: boom",
        ),
        (
            make_filter("inner", value=object()),
            "middleware inner: its settings cannot be sent to proxies",
            "Inner: middleware inner: its settings cannot be sent to proxies: "
            "Encoding objects of type object is unsupported",
        ),
    ],
)
def test_a_rule_with_a_filter_that_cannot_be_built_answers_500_and_others_are_as_before(
    node: FilterNode, reason: str, text: str
) -> None:
    configuration = build(make_rule("r", node, label="first"), make_rule("other", make_filter("inner")))
    section = configuration.sections["http"]
    assert section.services[f"{P}/rule/r"].answer == Answer(status=500, reason=reason)
    assert (get_chain(section), get_chain(section, 1)) == ([GUARD], [GUARD, "filter inner"])
    assert configuration.errors == ()
    (problem,) = configuration.rule_problems
    assert (problem.rule, problem.label, problem.origin, problem.text) == ("r", "first", ORIGIN, text)
    assert configuration.notices == (f"port 80: rule first of Pod route@shop: {text}",)


def test_a_backend_with_a_filter_that_cannot_be_built_answers_only_its_share() -> None:
    backends = [make_backend("old"), make_backend("new", make_filter("inner", bad=1))]
    configuration = build(make_rule("r", backends=backends))
    section = configuration.sections["http"]
    old, new = section.services[f"{P}/rule/r"].parts
    assert (old.service, new.weight) == (f"{P}/backend/shop/old:80", 1)
    assert section.services[new.service].answer == Answer(status=500, reason="inner is bad")
    assert [each.backend for each in configuration.rule_problems] == [ObjectKey("shop", "new")]
    assert f"{P}/backend/shop/new:80" not in section.services


def test_filters_are_built_for_a_rule_that_answers_so_that_one_of_them_can_answer_before() -> None:
    section = build(make_rule("r", make_filter("inner"), answer=AnswerNode(500, "no redirect"))).sections["http"]
    assert get_chain(section) == [GUARD, "filter inner"]


def test_a_filter_never_replaces_access_control() -> None:
    class FilteringGuard(Filtering):
        def build_settings(self, annotations: Mapping[str, str], service: ServiceNode) -> Mapping[str, Any]:
            return {"own": "yes"}

    section = build(make_rule("r", make_filter("access")), builders=[FilteringGuard("access", Stage.ADMISSION)])
    assert get_chain(section.sections["http"]) == ["shop/cart/access", "filter access", GUARD]


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=2),
    max_leaves=4,
)
_FILTERS = st.lists(
    st.builds(
        FilterNode,
        name=st.sampled_from(["Outer", "Inner", "Unknown", "\ud800"]),
        value=st.dictionaries(st.sampled_from(["bad", "boom", "none", "a"]), _VALUES, max_size=2),
    ),
    max_size=2,
).map(tuple)


@given(rules=st.lists(st.tuples(_FILTERS, _FILTERS), max_size=3))
def test_whatever_filters_contain_others_are_served_and_everything_can_be_sent(
    rules: Sequence[tuple[tuple[FilterNode, ...], tuple[FilterNode, ...]]],
) -> None:
    made = [
        make_rule(f"r/{index}", *outer, backends=[make_backend("old", *inner), make_backend("new")])
        for index, (outer, inner) in enumerate(rules)
    ]
    configuration = build(make_rule("good"), *made)
    assert configuration.errors == ()
    section = configuration.sections["http"]
    assert section.services[f"{P}/rule/good"].parts[0].service == f"{P}/backend/shop/old:80"
    assert msgspec.json.encode(configuration.sections)
    assert all(text.isprintable() for text in configuration.notices)
    for part in (part for service in section.services.values() for part in service.parts if part.middlewares):
        assert part.middlewares[0] == GUARD


def test_a_traffic_type_that_ignores_rules_closes_the_service() -> None:
    class Ignorant(HttpTrafficType):
        def build_section(self, service: ServiceNode, *_: Any, **__: Any) -> Section:
            return Section(routers={P: HttpRouter(entrypoint=5000, hosts=())})

    node = ServiceNode(key=KEY, traffic_type="http", ports=(PortNode(number=80, rules=make_table(make_rule("r"))),))
    catalogue = Catalogue([Ignorant(HTTP.port_range)])
    configuration = build_service_configuration(node, catalogue=catalogue, entrypoints={})
    assert configuration.errors == ("its traffic type does not support the rules of port 80",)


def test_a_builder_learns_whose_clients_a_rule_is_for() -> None:
    builder = Filtering("inner", Stage.SHAPE)
    table = make_table(make_rule("a", make_filter("inner", a=1)))
    port = PortNode(number=80, rules=table, consumers={"guests": table})
    node = ServiceNode(key=KEY, traffic_type="http", ports=(port,))
    build_service_configuration(node, catalogue=Catalogue([HTTP], [Guard(), builder]), entrypoints={})
    assert [each.client_namespace for requests in builder.asked for each in requests] == ["", "guests"]
