"""Routes and grants are read part by part, whatever is in them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from maesh_gateway.kinds import KINDS
from maesh_gateway.reading.request_routes import (
    find_ungrouped,
    read_grant,
    read_grpc_route,
    read_http_route,
    read_parents,
)

from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import ObjectMeta

from .conftest import Cluster, write_parent, write_path, write_route, write_rule, write_service

METADATA = ObjectMeta(name="web", namespace="shop")


def read(route):
    return next(kind for kind in KINDS if kind.name == route["kind"]).decode(route)


def test_a_route_is_read():
    route = read(write_route(rules=[write_rule("v1", name="first", matches=[write_path("/a")])], hostnames=["a.b"]))
    assert route.faults == ()
    assert [(parent.index, parent.service) for parent in route.parents] == [(0, ObjectKey("shop", "web"))]
    assert [(rule.index, rule.label, rule.problem) for rule in route.rules] == [(0, "first", None)]


def test_a_parents_namespace_is_by_default_that_of_the_route():
    route = read(write_route(parents=[{"group": "", "kind": "Service", "name": "web", "sectionName": "http"}]))
    assert (route.parents[0].service, route.parents[0].section) == (ObjectKey("shop", "web"), "http")
    assert route.parents[0].written == {"group": "", "kind": "Service", "name": "web", "sectionName": "http"}


@pytest.mark.parametrize("group", [[], {}, None, 1, ["core"]])
def test_a_parent_whose_group_is_no_text_is_not_ours(group):
    route = read(write_route(parents=[{"group": group, "kind": "Service", "name": "web"}, write_parent()]))
    assert [parent.index for parent in route.parents] == [1]


def test_an_unknown_field_of_a_parent_is_a_problem_of_this_parent():
    route = read(write_route(rules=[write_rule("a")], parents=[write_parent(prot=80), write_parent("other")]))
    assert route.faults == ()
    assert "parentRefs[0]: prot: unknown field" in route.parents[0].problem
    assert route.parents[1].problem == ""


@pytest.mark.parametrize(
    ("spec", "fault"),
    [
        ({"rules": []}, "spec.rules"),
        ({"rules": [{}] * 17}, "spec.rules"),
        ({"rules": {}}, "spec.rules"),
        ({"rule": [{}]}, "spec.rule: unknown field"),
        ({"hostnames": "a"}, "spec.hostnames"),
    ],
)
def test_a_fault_of_the_object_leaves_its_parents_readable(spec, fault):
    fields = {"spec": {"parentRefs": [write_parent()], **spec}}
    route = read_http_route(METADATA, fields)
    assert fault in route.faults[0]
    assert [parent.service.name for parent in route.parents] == ["web"]
    assert route.rules == ()


def test_more_matches_than_the_crd_allows_are_a_fault():
    rules = [write_rule(matches=[write_path(f"/{index}") for index in range(64)]) for _ in range(3)]
    route = read(write_route(rules=rules))
    assert route.faults == ("spec.rules: it has 192 matches; 128 are allowed",)
    assert route.rules == ()


def test_more_matches_in_one_rule_than_the_crd_allows_drop_the_rule():
    route = read(write_route(rules=[write_rule(matches=[{}] * 65), write_rule()]))
    assert [rule.problem is not None for rule in route.rules] == [True, False]


def test_a_name_that_an_object_cannot_have_is_a_fault():
    assert read_http_route(ObjectMeta(name="a/b", namespace="shop"), {}).faults
    assert read_http_route(ObjectMeta(name="a", namespace="a/b"), {}).faults
    assert not read_http_route(ObjectMeta(name="a.b", namespace="shop"), {}).faults


def test_the_second_rule_of_a_name_is_closed():
    route = read(write_route(rules=[write_rule("a", name="x"), write_rule("b", name="x")]))
    assert [rule.problem and rule.problem.text for rule in route.rules] == [
        None,
        "rules[1].name: 'x' is already the name of another rule",
    ]


@pytest.mark.parametrize("rule", [None, 5, "x", [], {1: 2}])
def test_a_rule_that_is_no_object_is_dropped(rule):
    route = read(write_route(rules=[rule, write_rule("a")]))
    assert [each.problem is not None and each.problem.is_dropped for each in route.rules] == [True, False]


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ({"backendRefs": [{"port": 80}]}, "rules[0].backendRefs[0].name is missing"),
        ({"backendRefs": [{"name": "a"}]}, "rules[0].backendRefs[0].port is missing"),
        ({"backendRefs": [{"name": "a", "port": 80, "weight": -1}]}, "rules[0].backendRefs[0].weight"),
        ({"backendRefs": [{"name": "a", "port": 80, "weight": 1_000_001}]}, "rules[0].backendRefs[0].weight"),
        ({"backendRefs": [{"name": "a", "port": 80}] * 17}, "rules[0].backendRefs"),
        ({"backendRef": []}, "rules[0].backendRef: unknown field; did you mean backendRefs?"),
        ({"timeouts": {"request": "1.5s"}}, "rules[0].timeouts.request"),
        ({"timeouts": {"reqest": "1s"}}, "rules[0].timeouts.reqest: unknown field"),
        ({"retry": {"codes": [399]}}, "rules[0].retry.codes"),
        ({"retry": {"attempts": 0}}, "rules[0].retry.attempts"),
        ({"name": "A b"}, "rules[0].name: 'A b' is not a valid name"),
    ],
)
def test_an_error_outside_of_the_matches_closes_the_rule(rule, text):
    route = read(write_route(rules=[{"matches": [write_path("/a")], **rule}]))
    problem = route.rules[0].problem
    assert problem.text.startswith(text)
    assert not problem.is_dropped
    assert [each.match.path_prefix for each in route.rules[0].matches] == ["/a"]


def test_only_the_first_32_parents_are_read():
    assert len(read_parents({"spec": {"parentRefs": [write_parent()] * 40}}, "shop")) == 32


@pytest.mark.parametrize(
    ("parents", "refused"),
    [
        ([{}, {}], [1]),
        ([{"sectionName": "a"}, {"sectionName": "b"}, {"sectionName": "a"}], [2]),
        ([{"port": 80}, {"port": 81}, {"port": 80}], [2]),
        ([{"sectionName": "a", "port": 80}, {"sectionName": "a", "port": 81}], []),
        ([{}, {"port": 80}], [1]),
        ([{"sectionName": "a"}, {"port": 80}, {"sectionName": "b"}], [1]),
        ([{}, {"name": "other"}, {"namespace": "lab"}], []),
        ([{"prot": 1}, {}], []),
    ],
)
def test_parents_of_one_service_must_differ_by_section_or_port(parents, refused):
    found = read_parents({"spec": {"parentRefs": [write_parent() | each for each in parents]}}, "shop")
    texts = {each.index: each.problem for each in found if "the same Service" in each.problem}
    assert list(texts) == refused
    if refused == [2]:
        assert texts[2] == (
            "parentRefs[2]: parentRefs[0] names the same Service; they must differ by sectionName or port"
        )


@pytest.mark.parametrize("spec", [None, [], {}, {"parentRefs": 5}, {"parentRefs": [None, [], {1: 2}, {"kind": []}]}])
def test_parents_of_any_other_shape_do_not_count_as_services_without_a_group(spec):
    assert find_ungrouped({"spec": spec}) == ()


# --- grants


def test_a_grant_is_read():
    fields = {
        "spec": {
            "from": [{"group": "g", "kind": "HTTPRoute", "namespace": "a"}],
            "to": [{"group": "", "kind": "Service"}],
        }
    }
    grant = read_grant(METADATA, fields)
    assert grant.faults == ()
    assert [(each.group, each.kind, each.namespace) for each in grant.from_] == [("g", "HTTPRoute", "a")]
    assert [(each.group, each.kind, each.name) for each in grant.to] == [("", "Service", "")]


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"from": [], "to": []},
        {"from": [{"group": "g", "kind": "K"}], "to": [{"group": "", "kind": "Service"}]},
        {"from": [{"kind": "K", "namespace": "a"}], "to": [{"group": "", "kind": "Service"}]},
        {"from": [{"group": "g", "kind": "K", "namespace": "a"}], "to": [{"kind": "Service"}]},
        {"from": [{"group": "g", "kind": "K", "namespace": "a"}], "to": [{"group": "", "kind": "Service"}], "x": 1},
    ],
)
def test_a_grant_that_lacks_something_has_a_fault(spec):
    assert read_grant(METADATA, {"spec": spec}).faults


# --- anything

LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 70000),
    st.floats(allow_nan=False),
    st.text(max_size=6),
    st.sampled_from(["Service", "web", "shop", "PathPrefix", "RegularExpression", "/a", "CORS", "1s", "((", "80"]),
)
NAMES = st.sampled_from(
    [
        "spec",
        "parentRefs",
        "rules",
        "matches",
        "filters",
        "backendRefs",
        "type",
        "name",
        "namespace",
        "group",
        "kind",
        "port",
        "weight",
        "value",
        "path",
        "headers",
        "queryParams",
        "method",
        "service",
        "timeouts",
        "retry",
        "sessionPersistence",
        "requestMirror",
        "requestRedirect",
        "backendRef",
        "cors",
        "from",
        "to",
        "x",
    ]
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=25
)
PARTS = st.fixed_dictionaries(
    {},
    optional={
        "matches": VALUES,
        "filters": st.lists(st.dictionaries(NAMES, VALUES, max_size=3), max_size=2) | VALUES,
        "backendRefs": st.lists(st.dictionaries(NAMES, VALUES, max_size=4), max_size=2) | VALUES,
        "timeouts": VALUES,
        "name": LEAVES,
    },
)
SPECS = VALUES | st.fixed_dictionaries(
    {"parentRefs": st.lists(st.just(write_parent()) | VALUES, max_size=2), "rules": st.lists(PARTS, max_size=3)}
)


@settings(max_examples=200)
@given(st.dictionaries(NAMES, VALUES, max_size=4) | st.fixed_dictionaries({"spec": SPECS}))
def test_random_objects_never_raise(fields):
    for read_fields in (read_http_route, read_grpc_route, read_grant):
        read_fields(METADATA, fields)


WEB = write_service("web")


@settings(max_examples=100)
@given(SPECS, st.sampled_from(["HTTPRoute", "GRPCRoute"]), st.sampled_from(["shop", "client"]))
def test_a_random_route_changes_only_its_own_rules(spec, kind, namespace):
    good = write_route("good", [write_rule("web", matches=[write_path("/good", "Exact")])])
    odd = {**write_route("odd", kind=kind, namespace=namespace), "spec": spec}
    found = Cluster(WEB, good, odd)
    addition = found.build()
    producer = addition.rules[80, "TCP"].producer
    assert addition.errors == ()
    names = [rule.name for rule in producer.rules]
    if kind == "HTTPRoute" or namespace == "client":
        assert "httproute/shop/good/0" in names
        assert found.find_rule(route="good").answer is None
