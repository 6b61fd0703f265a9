"""The order of matches, compared with a plain implementation of the Gateway API's text."""

import functools

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from maesh_gateway.attaching.precedence import build_table
from maesh_gateway.kinds import KINDS

from maesh_core.plugin import AnswerNode, BranchNode

from .conftest import write_path, write_route, write_rule

NO_MATCH = AnswerNode(status=404, reason="")


def read(route):
    return next(kind for kind in KINDS if kind.name == route["kind"]).decode(route)


def list_order(*routes):
    """List the matches in order, as (namespace/name, rule, match)."""
    found = [read(route) for route in routes]
    table = build_table(
        [
            (route, {rule.index: BranchNode(name=f"{place}/{rule.index}") for rule in route.rules})
            for place, route in enumerate(found)
        ],
        NO_MATCH,
    )
    order = []
    for each in table.order:
        place, index = map(int, table.rules[each.rule].name.split("/"))
        route = found[place]
        order.append((f"{route.metadata.namespace}/{route.metadata.name}", index, each.match))
    return order


def list_places(*routes):
    return [(name.partition("/")[2], index) for name, index, _ in list_order(*routes)]


def test_exact_paths_are_before_patterns_and_these_before_prefixes():
    rules = [
        write_rule(matches=[write_path("/")]),
        write_rule(matches=[write_path("/long/prefix")]),
        write_rule(matches=[write_path("/.*", "RegularExpression")]),
        write_rule(matches=[write_path("/longer.*", "RegularExpression")]),
        write_rule(matches=[write_path("/a", "Exact")]),
    ]
    assert list_places(write_route(rules=rules)) == [("web", index) for index in (4, 3, 2, 1, 0)]


def test_then_a_method_then_headers_then_query_parameters_decide():
    header, query = {"name": "a", "value": "b"}, {"name": "a", "value": "b"}
    rules = [
        write_rule(matches=[{}]),
        write_rule(matches=[{"queryParams": [query, {"name": "c", "value": "d"}]}]),
        write_rule(matches=[{"headers": [header]}]),
        write_rule(matches=[{"headers": [header], "queryParams": [query]}]),
        write_rule(matches=[{"method": "GET"}]),
    ]
    assert list_places(write_route(rules=rules)) == [("web", index) for index in (4, 3, 2, 1, 0)]


def test_among_equal_matches_age_then_name_then_place_decide():
    rules = [write_rule(matches=[{}, {}]), write_rule()]
    routes = [
        write_route("b", rules, created="2026-01-01T00:00:00Z"),
        write_route("a", rules, created="2026-01-01T00:00:00Z"),
        write_route("z", rules, created="2025-12-31T23:59:59Z"),
    ]
    assert list_places(*routes) == [(name, index) for name in "zab" for index in (0, 0, 1)]


# --- a plain reference implementation

SEGMENTS = st.sampled_from(["a", "b", "ab"])
PATHS = st.lists(SEGMENTS, max_size=3).map(lambda parts: "/" + "/".join(parts))
NAMED = st.lists(
    st.builds(lambda name, value: {"name": name, "value": value}, st.sampled_from("abc"), st.sampled_from("xy")),
    max_size=3,
)
MATCHES = st.fixed_dictionaries(
    {},
    optional={
        "path": st.builds(
            lambda type_, value: {"type": type_, "value": value},
            st.sampled_from(["Exact", "PathPrefix", "RegularExpression"]),
            PATHS,
        ),
        "headers": NAMED,
        "queryParams": NAMED,
        "method": st.sampled_from(["GET", "POST"]),
    },
)
TIMES = st.sampled_from(["", "2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z"])
ROUTES = st.lists(
    st.builds(
        lambda namespace, name, rules, created: write_route(
            name, [write_rule(matches=matches) for matches in rules], namespace=namespace, created=created
        ),
        st.sampled_from(["shop", "shop-2"]),
        st.sampled_from(["a", "a-b", "b"]),
        st.lists(st.lists(MATCHES, max_size=3), min_size=1, max_size=3),
        TIMES,
    ),
    max_size=4,
    unique_by=lambda route: (route["metadata"]["namespace"], route["metadata"]["name"]),
)


def precedes(one, other):
    """Compare two matches in the words of HTTPRouteRule.matches: negative if `one` decides first."""
    for criterion in (
        lambda each: _get_path(each)["type"] == "Exact",
        lambda each: _get_path(each)["type"] == "RegularExpression",
        lambda each: len(_get_path(each)["value"].rstrip("/")) * (_get_path(each)["type"] != "Exact"),
        lambda each: "method" in each["match"],
        lambda each: len({header["name"].lower() for header in each["match"].get("headers", ())}),
        lambda each: len({query["name"] for query in each["match"].get("queryParams", ())}),
    ):
        more, less = criterion(one), criterion(other)
        if more != less:
            return -1 if more > less else 1
    for key in ("created", "name", "rule", "number"):
        if one[key] != other[key]:
            return -1 if one[key] < other[key] else 1
    return 0


def _get_path(each):
    return each["match"].get("path", {"type": "PathPrefix", "value": "/"})


def order_plainly(routes):
    entries = []
    for route in routes:
        metadata = route["metadata"]
        for index, rule in enumerate(route["spec"]["rules"]):
            for number, match in enumerate(rule["matches"] or [{}]):
                entries.append(
                    {
                        "match": match,
                        "created": metadata.get("creationTimestamp", "9999"),
                        "name": f"{metadata['namespace']}/{metadata['name']}",
                        "rule": index,
                        "number": number,
                    }
                )
    entries.sort(key=functools.cmp_to_key(precedes))
    return [(each["name"], each["rule"]) for each in entries]


@given(ROUTES)
def test_the_order_is_that_of_a_plain_implementation(routes):
    assert [(name, index) for name, index, _ in list_order(*routes)] == order_plainly(routes)


@given(ROUTES)
def test_the_order_does_not_depend_on_the_order_in_which_routes_are_found(routes):
    assert list_order(*routes) == list_order(*reversed(routes))


@given(ROUTES)
def test_every_match_is_in_the_order_once(routes):
    expected = sum(len(rule.matches) for route in map(read, routes) for rule in route.rules)
    assert len(list_order(*routes)) == expected


def test_a_table_can_be_encoded():
    found = read(write_route(rules=[write_rule(matches=[write_path("/a")])]))
    table = build_table([(found, {0: BranchNode(name="a/0")})], NO_MATCH)
    assert msgspec.to_builtins(table)["order"][0]["match"] == {"pathPrefix": "/a"}
