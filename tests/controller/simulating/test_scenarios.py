"""A file of scenarios is checked as a whole, and its requests are expanded to all combinations."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.controller.simulating.scenarios import (
    CASES_LIMIT,
    Expectation,
    SimulatedClient,
    build_cases,
    parse_scenario,
    parse_share,
)
from maesh_core.errors import ManifestError
from maesh_core.model.keys import ObjectKey

TEXT = """
manifests: ../deploy
plugins: [acl]
requests:
  - name: the shop reads
    clients: [shop/web, "*", 10.0.0.1, {pod: shop/web-0}, {account: batch@shop}, {address: "FD00::1"}]
    service: products.shop
    port: 80
    methods: [GET, HEAD]
    paths: [/, /a?b=1]
    headers: {X-Group: beta}
    expect: allowed
  - client: shop/web
    service: shop/products
    expect: {verdict: denied, goes-to: {a: 90%, b: 0.1}, limits: []}
"""


def test_requests_are_expanded_to_combinations():
    scenario = parse_scenario(TEXT, "s.yaml")
    assert (scenario.manifests, scenario.plugins, len(scenario.cases)) == (("../deploy",), ("acl",), 6 * 2 * 2 + 1)
    first, last = scenario.cases[0], scenario.cases[-1]
    assert (first.name, first.place, first.client) == ("the shop reads", 1, SimulatedClient(ObjectKey("shop", "web")))
    assert (first.service, first.port) == (ObjectKey("shop", "products"), 80)
    assert (first.method, first.path, first.headers) == ("GET", "/", (("x-group", "beta"),))
    assert first.expected == Expectation(verdict="allowed")
    assert (last.name, last.method, last.path) == ("GET / from shop/web to shop/products", "GET", "/")
    assert last.expected.limits == ()
    clients = list(dict.fromkeys(str(each.client) for each in scenario.cases))
    assert clients == ["shop/web", "every other client", "10.0.0.1", "shop/web-0", "shop/batch", "fd00::1"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "has 0 documents, and not one"),
        ("requests: []\n---\nrequests: []", "has 2 documents, and not one"),
        ("requests: [", "s.yaml document 1 line 2"),
        ("- a", "expected a mapping, got a list"),
        ("request: []", "unknown field `request`"),
        (
            "requests: [{service: a.b, client: a/b, expect: maybe}]",
            "requests[0].expect: unknown verdict 'maybe'; the verdicts are allowed, denied,",
        ),
        ("requests: [{service: a.b, client: a/b, expect: {}}]", "requests[0]: expect is empty"),
        ("requests: [{service: a.b, client: a/b, expect: {goes-to: {a: 101%}}}]", "'101%' is not a share"),
        ("requests: [{service: a.b, expect: allowed}]", "requests[0]: client is missing"),
        ("requests: [{client: a/b, expect: allowed}]", "requests[0]: service is missing"),
        ("requests: [{client: a, service: a.b, expect: allowed}]", "client 'a' is not a service account"),
        ("requests: [{client: {}, service: a.b, expect: allowed}]", "client needs one of account, pod and address"),
        ("requests: [{client: {address: x}, service: a.b, expect: allowed}]", "client 'x' is not an IP address"),
        ("requests: [{client: a/b, clients: [a/b], service: a.b, expect: allowed}]", "has both client and clients"),
        ("requests: [{client: a/b, service: a.b, method: get, expect: allowed}]", "methods are case-sensitive"),
        ("requests: [{client: a/b, service: a.b, path: x, expect: allowed}]", "PATH: 'x' does not begin with /"),
        ("requests: [{client: a/b, service: a.b, port: 999999, expect: allowed}]", "port: '999999'"),
    ],
)
def test_a_mistake_is_reported_with_its_place(text, problem):
    with pytest.raises(ManifestError) as raised:
        parse_scenario(text, "s.yaml")
    assert problem in str(raised.value)


def test_the_number_of_combinations_is_limited():
    paths = ", ".join(f"/{number}" for number in range(CASES_LIMIT + 1))
    with pytest.raises(ManifestError, match="has more than 20000 combinations"):
        parse_scenario(f"requests: [{{client: a/b, service: a.b, paths: [{paths}], expect: allowed}}]", "s.yaml")


@pytest.mark.parametrize(
    ("text", "share"),
    [("90%", 0.9), ("12.5 %", 0.125), (0.25, 0.25), (1, 1.0), ("0", 0.0), ("x", None), ("2", None), ("nan", None)],
)
def test_shares_are_numbers_or_percentages(text, share):
    assert parse_share(text) == share


def test_a_request_of_a_test_is_built_in_the_same_form():
    (case,) = build_cases({"client": "a/b", "service": "c.d", "expect": "denied", "path": "/x"}, "the request")
    assert (case.path, case.expected.verdict) == ("/x", "denied")
    with pytest.raises(ManifestError, match=r"the request: .*unknown field `pth`"):
        build_cases({"client": "a/b", "service": "c.d", "expect": "denied", "pth": "/x"}, "the request")


@given(st.text(alphabet="abcrequests:[]{},- \n\"'%*&!expect", max_size=60))
def test_any_text_is_a_scenario_or_an_error(text):
    with suppress(ManifestError):
        parse_scenario(text, "s.yaml")
