"""Which rule applies to a request, and why: as a proxy decides it, in words for a person."""

from maesh_core.controller.explaining.rules import choose_rule, describe_match, name_rule
from maesh_core.model.configuration import HttpOrder, HttpRouter, HttpRule, HttpRules
from maesh_core.model.matches import HeaderMatch, HttpMatch, QueryMatch
from maesh_testing import FakeExchange

BETA = HttpMatch(path_prefix="/beta")
RULES = HttpRules(
    rules=(HttpRule(service="P/rule/a", middlewares=("g",), name="beta"), HttpRule(service="P/rule/b")),
    order=(HttpOrder(rule=0, match=BETA), HttpOrder(rule=1, match=HttpMatch(methods=("POST",)))),
    status=404,
    reason="no rule of an HTTPRoute matches",
)
SHOWN = {"rules": {"rules": [{"kind": "HTTPRoute", "namespace": "shop", "object": "web", "filters": [{"name": "F"}]}]}}


def choose(target="/", *, method="GET", namespace="", **fields):
    router = HttpRouter(entrypoint=1, hosts=(), **({"rules": RULES} | fields))
    steps = []
    exchange = FakeExchange(method=method.encode(), target=target.encode())
    return choose_rule(router, SHOWN, exchange, namespace=namespace, steps=steps), steps


def test_the_first_match_in_the_order_of_the_port_decides():
    chosen, steps = choose("/beta/x", method="POST")
    assert (chosen.service, chosen.middlewares) == ("P/rule/a", ("g",))
    assert steps == [
        "rule beta of HTTPRoute shop/web: the request matches path prefix /beta (match 1 of the port)",
        "its filters: F",
    ]
    chosen, steps = choose("/other", method="POST")
    assert chosen.service == "P/rule/b"
    assert steps == ["rule number 2: the request matches method POST (match 2 of the port)"]


def test_a_request_that_no_rule_matches_gets_the_response_of_the_rules():
    chosen, _ = choose("/other")
    assert (chosen.service, chosen.status, chosen.reason) == ("", 404, "no rule of an HTTPRoute matches")


def test_an_ambiguous_path_is_denied_if_a_rule_reads_paths():
    chosen, _ = choose("/beta/../x")
    assert (chosen.service, chosen.status) == ("", 403)
    by_method = HttpRules(rules=RULES.rules, order=RULES.order[1:])
    assert choose("/beta/../x", method="POST", rules=by_method)[0].service == "P/rule/b"


def test_clients_of_a_namespace_have_rules_of_their_own_and_others_the_fallback():
    own = HttpRules(rules=(HttpRule(service="P/consumer/test/a"),), order=(HttpOrder(rule=0),))
    fields = {"rules": None, "consumers": {"test": own}, "fallback": "P"}
    chosen, steps = choose(namespace="test", **fields)
    assert chosen.service == "P/consumer/test/a"
    assert steps[0] == "clients of namespace test have rules of their own"
    chosen, steps = choose(namespace="other", **fields)
    assert chosen.service == "P"
    assert steps == ["the rules for clients of namespace test do not apply to this client"]


def test_all_conditions_of_a_match_are_described():
    match = HttpMatch(
        exact_path="/a",
        methods=("GET",),
        headers=(HeaderMatch(name="x", value="1"), HeaderMatch(name="y", pattern="2+")),
        queries=(QueryMatch(name="q", value="3"),),
    )
    assert (
        describe_match(match) == "path /a exactly and method GET and header x=1 and header y~2+ and query parameter q=3"
    )
    assert describe_match(HttpMatch()) == "everything"


def test_a_rule_without_a_label_is_named_by_its_place_in_its_object():
    document = {
        "kind": "HTTPRoute",
        "namespace": "shop",
        "object": "web",
        "key": "shop/web:80/rule/httproute/shop/web/1",
    }
    assert name_rule(document, 4) == "rules[1] of HTTPRoute shop/web"
    assert name_rule(document, 4, "beta") == "rule beta of HTTPRoute shop/web"
    assert name_rule({**document, "key": "shop/web:80/rule/r"}, 4) == "rule number 5 of HTTPRoute shop/web"
