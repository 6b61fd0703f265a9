"""Rules and matches that never apply, over all ports and all clients."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.controller.checking.rules import check_rules
from maesh_core.model.keys import ObjectKey
from maesh_core.model.matches import HttpMatch
from maesh_core.model.resources import Service
from maesh_core.model.topology import AnswerNode, BranchNode, OrderedMatch, PortNode, RuleTable, ServiceNode

NOBODY = AnswerNode(status=404, reason="no rule matches")
A, AB, B = HttpMatch(path_prefix="/a"), HttpMatch(path_prefix="/a/b"), HttpMatch(path_prefix="/b")


def build_rule(index, *matches, name="route"):
    return BranchNode(
        name=f"httproute/shop/{name}/{index}",
        matches=matches,
        answer=NOBODY,
        origin=(Service, ObjectKey("shop", name)),
    )


def build_table(*rules, order=None):
    pairs = order or [(index, match) for index, rule in enumerate(rules) for match in rule.matches]
    return RuleTable(
        no_match=NOBODY, rules=rules, order=tuple(OrderedMatch(match=match, rule=index) for index, match in pairs)
    )


def build_node(*tables, consumers=None):
    """Build a service with these tables, a port for each."""
    ports = [PortNode(number=number, rules=table) for number, table in enumerate(tables, 80)]
    if consumers is not None:
        ports[0] = msgspec.structs.replace(ports[0], consumers=consumers)
    return ServiceNode(key=ObjectKey("shop", "web"), traffic_type="http", ports=tuple(ports))


def check(*tables, consumers=None):
    return [(each.code, each.text) for each in check_rules([build_node(*tables, consumers=consumers)])]


def test_rules_for_different_requests_are_fine():
    assert check(build_table(build_rule(0, AB), build_rule(1, A), build_rule(2, B))) == []


def test_a_rule_behind_a_wider_one_is_never_reached():
    assert check(build_table(build_rule(0, A), build_rule(1, AB))) == [
        ("MSH301", "rules[1]: it is never reached: rules[0] gets all of its requests")
    ]


def test_several_rules_together_can_hide_one():
    assert check(build_table(build_rule(0, A), build_rule(1, B), build_rule(2, AB, B))) == [
        ("MSH301", "rules[2]: it is never reached: rules[0] and rules[1] get all of its requests")
    ]


def test_a_rule_of_another_route_is_named_with_its_route():
    assert check(build_table(build_rule(0, A, name="older"), build_rule(0, A))) == [
        ("MSH301", "rules[0]: it is never reached: rules[0] of Service older@shop gets all of its requests")
    ]


def test_a_match_that_adds_nothing_is_not_the_whole_rule():
    assert check(build_table(build_rule(0, A), build_rule(1, AB, B))) == [
        ("MSH302", "rules[1].matches[0]: it adds nothing: rules[0] gets all of its requests")
    ]


@pytest.mark.parametrize("matches", [(A, AB), (A, A)])
def test_a_match_behind_another_one_of_its_rule_adds_nothing(matches):
    assert check(build_table(build_rule(0, *matches))) == [
        ("MSH302", "rules[0].matches[1]: it adds nothing: an earlier match of the rule gets all of its requests")
    ]


def test_what_is_reached_on_one_port_is_not_reported_for_another():
    hidden, alone = build_table(build_rule(0, A), build_rule(1, AB)), build_table(build_rule(1, AB))
    assert check(hidden, alone) == []
    assert check(hidden, consumers={"other": alone}) == []


def test_a_rule_without_an_object_hides_others_without_being_reported():
    anonymous = msgspec.structs.replace(build_rule(0, A), origin=None)
    assert check(build_table(anonymous, build_rule(1, AB), msgspec.structs.replace(anonymous, name="x/2"))) == [
        ("MSH301", "rules[1]: it is never reached: an earlier rule gets all of its requests")
    ]


def test_a_match_that_holds_for_no_request_is_reported_once():
    impossible = build_rule(0, HttpMatch(path_pattern="a"))
    expected = ("MSH303", "rules[0]: it holds for no request: no path matches 'a': a path begins with /")
    assert check(build_table(impossible), build_table(impossible)) == [expected]


matches = st.builds(
    HttpMatch,
    path_prefix=st.sampled_from(("", "/a", "/a/b", "/b")),
    methods=st.sampled_from(((), ("GET",), ("POST",), ("GET", "POST"))),
)


@given(st.lists(st.lists(matches, min_size=1, max_size=3), min_size=1, max_size=5))
def test_a_rule_is_reported_exactly_if_no_request_of_a_set_reaches_it(rules):
    """These matches are compared completely, except that several together may hide another one."""
    requests = [(path, method) for path in ("/", "/a", "/a/b", "/b") for method in ("GET", "POST", "PUT")]

    def meets(match, request):
        path, method = request
        return f"{path.rstrip('/')}/".startswith(f"{match.path_prefix}/") and (
            not match.methods or method in match.methods
        )

    table = build_table(*(build_rule(index, *each) for index, each in enumerate(rules)))
    reported = {text.partition(":")[0] for code, text in check(table) if code == "MSH301"}
    reached = {next((each.rule for each in table.order if meets(each.match, request)), None) for request in requests}
    assert not reported & {f"rules[{index}]" for index in reached}
