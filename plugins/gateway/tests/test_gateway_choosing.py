"""What proxies choose for a request is what the Gateway API says, for random routes and requests."""

import re

from hypothesis import given, settings
from hypothesis import strategies as st
from maesh_gateway.attaching.precedence import build_table

from maesh_core.model.matching import CompiledMatch
from maesh_core.plugin import AnswerNode, BranchNode

from .conftest import write_route, write_rule
from .test_gateway_precedence import NAMED, _get_path, precedes, read

NO_MATCH = AnswerNode(status=404, reason="")
PATHS = st.lists(st.sampled_from(["a", "b", "ab", ""]), max_size=4).map(lambda parts: "/" + "/".join(parts))
VALUES = st.lists(st.sampled_from(["a", "b", "ab"]), max_size=3).map(lambda parts: "/" + "/".join(parts))
MATCHES = st.fixed_dictionaries(
    {},
    optional={
        "path": st.builds(
            lambda type_, value: {"type": type_, "value": value},
            st.sampled_from(["Exact", "PathPrefix", "RegularExpression"]),
            VALUES,
        ),
        "headers": NAMED,
        "queryParams": NAMED,
        "method": st.sampled_from(["GET", "POST"]),
    },
)
PAIRS = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xy")), max_size=3)


class Request:
    """A request as matches see it."""

    def __init__(self, method, path, query, headers):
        self.method = method.encode()
        self.target = (path + ("?" if query else "") + "&".join(f"{name}={value}" for name, value in query)).encode()
        self.path, self.query, self.headers = path, query, headers
        self.client_headers = self

    def get_all(self, name):
        return [value.encode() for key, value in self.headers if key.encode() == name]


REQUESTS = st.builds(Request, st.sampled_from(["GET", "POST", "PUT"]), PATHS, PAIRS, PAIRS)


def meets(match, request):
    """Whether a request meets a match, in the words of HTTPRouteMatch."""
    path = _get_path({"match": match})
    value = path["value"]
    if path["type"] == "Exact":
        is_met = request.path == value
    elif path["type"] == "RegularExpression":
        is_met = re.fullmatch(value, request.path) is not None
    else:
        wanted = [part for part in value.split("/") if part]
        is_met = request.path.split("/")[1 : len(wanted) + 1] == wanted or not wanted
    conditions = {}
    for header in match.get("headers", ()):
        conditions.setdefault(header["name"], header["value"])
    for name, wanted_value in conditions.items():
        is_met = is_met and wanted_value in [found for key, found in request.headers if key == name]
    conditions = {}
    for query in match.get("queryParams", ()):
        conditions.setdefault(query["name"], query["value"])
    for name, wanted_value in conditions.items():
        first = next((found for key, found in request.query if key == name), None)
        is_met = is_met and first == wanted_value
    return is_met and match.get("method", request.method.decode()) == request.method.decode()


def choose_plainly(rules, request):
    """Choose the rule with the best match that the request meets."""
    met = [
        {"match": match, "created": "", "name": "", "rule": index, "number": number}
        for index, matches in enumerate(rules)
        for number, match in enumerate(matches or [{}])
        if meets(match, request)
    ]
    best = None
    for each in met:
        if best is None or precedes(each, best) < 0:
            best = each
    return None if best is None else best["rule"]


@settings(max_examples=300)
@given(st.lists(st.lists(MATCHES, max_size=3), min_size=1, max_size=4), st.lists(REQUESTS, min_size=1, max_size=5))
def test_the_first_match_in_order_is_the_best_one_that_a_request_meets(rules, requests):
    written = write_route(rules=[write_rule(matches=matches) for matches in rules])
    route = read(written)
    table = build_table([(route, {rule.index: BranchNode(name=str(rule.index)) for rule in route.rules})], NO_MATCH)
    compiled = [(CompiledMatch(each.match), each.rule) for each in table.order]
    for request in requests:
        found = next((int(table.rules[rule].name) for match, rule in compiled if match.holds(request)), None)
        assert found == choose_plainly(rules, request)
