"""A case passes if the mesh does what is expected; otherwise its failures say what was expected and what was found."""

import pytest

from maesh_core.controller.simulating.scenarios import Expectation, build_cases
from maesh_core.controller.simulating.simulation import Simulation, mentions

from ..mesh_states.states import build_group, build_service, build_shop, build_split, build_state, build_target

DOCUMENTS = build_shop(
    build_service("limited", annotations={"maesh.containo.us/retry-attempts": "3"}),
    build_split("canary", "app", app_v1=90, app_v2=10),
    build_target("v1", "app-v1", ["web"], "reads"),
    build_target("v2", "app-v2", ["web", "unborn"], "reads"),
    build_group("reads", ("/a", "GET")),
)
GUARDED = Simulation(build_state(DOCUMENTS, plugins=("acl", "retry", "smi")))
OPEN = Simulation(build_state(DOCUMENTS, plugins=("retry", "smi")))


def run(expect, *, client="shop/web", service="shop/app", simulation=GUARDED, path="/a", **request):
    given = {"client": client, "service": service, "path": path, "expect": expect, **request}
    (case,) = build_cases(given, "the request")
    simulation.add_clients([case.client])
    return simulation.run_case(case)


@pytest.mark.parametrize(
    "expect",
    [
        "allowed",
        {"verdict": "allowed", "by": "TrafficTarget v1@shop"},
        {"by": ["TrafficTarget shop/v1", "TrafficTarget v2", "split canary"]},
        {"goes-to": {"app-v1": "90%", "shop/app-v2:80": 0.1}},
        {"goes-to": {"app-v1": "88%", "app-v2": "12%"}, "tolerance": "2%"},
        {"goes-to": ["app-v1", "app-v2"]},
        {"limits": []},
    ],
)
def test_what_happens_as_expected_passes(expect):
    assert run(expect).failures == ()


@pytest.mark.parametrize(
    ("expect", "failures"),
    [
        (
            {"verdict": "denied", "status": 403},
            ("expected: denied, found: allowed", "expected: status 403, found: status 200"),
        ),
        ({"by": "TrafficTarget v3"}, ("expected: by TrafficTarget v3, found: by split canary",)),
        ({"by": "TrafficTarget other/v1"}, ("expected: by TrafficTarget other/v1",)),
        (
            {"goes-to": {"app-v1": "50%", "app-v2": "50%"}},
            ("expected: 50% to app-v1, found: 90%", "expected: 50% to app-v2"),
        ),
        ({"goes-to": "app-v1"}, ("expected: no other service, found: 10% to shop/app-v2:80",)),
        (
            {"goes-to": {"app-v1:81": 1}},
            ("expected: goes to app-v1:81, found: 90% to shop/app-v1:80", "expected: no other"),
        ),
        ({"limits": ["5 requests"]}, ("expected: limit 5 requests, found: none",)),
    ],
)
def test_what_happens_otherwise_is_a_failure_with_both_sides(expect, failures):
    found = run(expect).failures
    assert len(found) == len(failures)
    assert all(one.startswith(other) for one, other in zip(found, failures, strict=True))


def test_clients_are_accounts_with_or_without_pods_addresses_and_others():
    assert run("denied", client="shop/batch").failures == ()
    assert run("denied", client="shop/unborn").failures == ()
    assert run("allowed", client="shop/unborn", service="shop/app-v2").failures == ()
    assert run("denied", client="*").failures == ()
    assert run("denied", client="10.9.9.9").failures == ()
    assert run("allowed", client={"pod": "shop/web-0"}).failures == ()
    assert run("absent", client={"pod": "shop/nothing"}).failures == ()


def test_a_service_that_does_not_exist_is_absent():
    result = run("allowed", service="shop/nothing")
    assert result.found.outcome == "absent"
    assert "expected: allowed, found: absent (the mesh knows no service nothing in namespace shop" in result.failures[0]


def test_middlewares_are_limits():
    result = run({"limits": ["retry"]}, service="shop/limited", simulation=OPEN)
    assert result.failures == ()
    assert run({"limits": []}, service="shop/limited", simulation=OPEN).failures[0].startswith("expected: no limits")


def test_a_service_without_servers_is_unserved():
    assert run({"verdict": "unserved", "status": 503}, service="shop/limited", simulation=OPEN).failures == ()


@pytest.mark.parametrize(
    ("line", "text", "is_mentioned"),
    [
        ("acl: TrafficTarget one@shop allows it", "TrafficTarget shop/one", True),
        ("acl: TrafficTarget one@shop allows it", "TrafficTarget one", True),
        ("acl: TrafficTarget one@shop allows it", "TrafficTarget on", False),
        ("acl: TrafficTarget one-more@shop allows it", "TrafficTarget one", False),
        ("rule beta of HTTPRoute shop/web: the request matches", "HTTPRoute web", True),
        ("at most 100 requests", "100", True),
        ("at most 100 requests", "10", False),
        ("pattern /a.b", "/a", False),
    ],
)
def test_a_text_is_mentioned_as_whole_words_in_either_notation(line, text, is_mentioned):
    assert mentions(line, text) is is_mentioned


def test_what_would_be_denied_in_audit_mode_is_expected_or_a_failure():
    audited = Simulation(build_state(DOCUMENTS, plugins=("acl", "smi"), settings={"acl": {"mode": "audit"}}))
    expect = {"verdict": "allowed", "would-deny": True}
    assert run(expect, client="shop/batch", simulation=audited).failures == ()
    (failure,) = run(expect, client="shop/web", simulation=audited).failures
    assert failure == "expected: would be denied if access control were enforced, found: it would not"


def test_an_expectation_without_a_field_does_not_check_it():
    assert Expectation().goes_to == ()
