"""Two states are compared by what changes for traffic; each change of access has an example whose results differ."""

import string

from hypothesis import given, settings
from hypothesis import strategies as st

from maesh_core.controller.comparing import requests
from maesh_core.controller.comparing.asking import is_admitted
from maesh_core.controller.comparing.comparison import compare_states
from maesh_core.controller.explaining.explanation import ExplainedRequest
from maesh_core.controller.mesh_states.clients import STRANGER, Account

from ..mesh_states.states import (
    build_group,
    build_object,
    build_pod,
    build_service,
    build_shop,
    build_split,
    build_state,
    build_target,
)

GUARDED = {"plugins": ("acl", "gateway", "retry", "smi", "timeout", "udp")}
OPEN = {"plugins": ("gateway", "redirect", "retry", "smi", "timeout", "udp")}


def compare(old, new, **options):
    return compare_states(build_state(old, label="old", **options), build_state(new, label="new", **options))


def ask(state, account, service, method, path):
    client = STRANGER if account == "*" else state.name_client(Account(*account.split("/")))
    return state.explain(ExplainedRequest(client=client, service=service, method=method, path=path))


def test_a_method_that_a_rule_adds_is_opened_for_its_clients():
    rules = build_target("reads", "app", ["web"], "group")
    old, new = (build_shop(rules, build_group("group", ("/a", *methods))) for methods in (["GET"], ["GET", "PUT"]))
    found = compare(old, new, **GUARDED)
    (change,) = found.access
    assert (change.change, change.level, change.service, change.clients) == (
        "opens",
        "warning",
        "shop/app",
        ("shop/web",),
    )
    assert (change.example.method, change.example.path) == ("PUT", "/a")
    assert (change.old.outcome, change.old.status, change.new.outcome) == ("denied", 403, "allowed")
    assert change.new.by == ("acl: TrafficTarget reads@shop allows it",)
    assert (found.opens_access, found.routes, found.limits, found.unclear) == (True, (), (), ())
    (closed,) = compare(new, old, **GUARDED).access
    assert (closed.change, closed.level, closed.example) == ("closes", "info", change.example)


def test_clients_that_are_treated_alike_are_one_change():
    new = build_shop(build_target("all", "app", ["web", "batch"]))
    (change,) = compare(build_shop(), new, **GUARDED).access
    assert (change.clients, change.is_every) == (("shop/batch", "shop/web"), True)


def test_new_addresses_replicas_and_names_of_rules_change_nothing():
    old = build_shop(build_target("one", "app", ["web"]))
    new = build_shop(
        build_target("other", "app", ["web"]), build_pod("app-1", "10.0.1.77", "app", app="app"), web="10.0.0.99"
    )
    assert compare(old, new, **GUARDED).is_empty


def test_an_address_that_goes_to_another_account_is_no_other_client():
    """The configuration of proxies is equal then, but the rule names another account."""
    old = build_shop(build_target("one", "app", ["web"]))
    new = [each for each in build_shop(build_target("one", "app", ["batch"])) if each["metadata"]["name"] != "batch-0"]
    new = [each for each in new if each["metadata"]["name"] != "web-0"] + [build_pod("batch-0", "10.0.0.1", "batch")]
    found = compare(old, new, **GUARDED)
    assert {(each.change, each.clients) for each in found.access} == {
        ("opens", ("shop/batch",)),
        ("closes", ("shop/web",)),
    }


def test_a_client_without_pods_in_one_state_is_judged_by_the_rules():
    target = build_target("one", "app", ["web"])
    new = build_shop(target)
    old = [each for each in new if each["metadata"]["name"] != "web-0"]
    assert compare(old, new, **GUARDED).is_empty
    nobody = [each for each in build_shop(target) if each["metadata"]["name"] not in ("web-0", "batch-0")]
    assert compare(nobody[:-1], nobody, **GUARDED).access[0].clients == ("shop/web",)


def test_the_end_of_access_control_for_all_clients_is_opened_for_everybody():
    rules = build_target("one", "app", ["web"])
    old = build_state(build_shop(rules), label="old", **GUARDED)
    new = build_state(build_shop(rules), label="new", **OPEN)
    opened = [each for each in compare_states(old, new).access if each.service == "shop/app"]
    assert [(each.change, each.clients) for each in opened] == [("opens", ("*",))]


def test_shares_that_change_are_a_route():
    old, new = (build_shop(build_split("split", "app", app_v1=90 - more, app_v2=10 + more)) for more in (0, 40))
    found = compare(old, new, **OPEN)
    (change,) = found.routes
    assert (change.service, change.is_every) == ("shop/app", True)
    assert change.old.goes_to == {"shop/app-v1:80": 0.9, "shop/app-v2:80": 0.1}
    assert change.new.goes_to == {"shop/app-v1:80": 0.5, "shop/app-v2:80": 0.5}
    assert (found.access, found.opens_access) == ((), False)


def test_a_split_that_becomes_a_route_of_the_gateway_api_changes_nothing():
    route = build_object(
        "HTTPRoute",
        "split",
        "gateway.networking.k8s.io/v1",
        spec={
            "parentRefs": [{"group": "", "kind": "Service", "name": "app", "port": 80}],
            "rules": [
                {"backendRefs": [{"name": f"app-v{n}", "port": 80, "weight": 50} for n in (1, 2)]},
            ],
        },
    )
    old = build_shop(build_split("split", "app", app_v1=50, app_v2=50))
    assert compare(old, build_shop(route), **OPEN).is_empty


def test_a_middleware_that_changes_is_a_limit():
    old, new = (
        [
            build_service("one", annotations={"maesh.containo.us/retry-attempts": n}),
            build_pod("p", "10.0.0.1", "one", app="one"),
        ]
        for n in ("2", "3")
    )
    (change,) = compare(old, new, **OPEN).limits
    assert change.removed != change.added
    assert all(line.startswith("retry: ") for line in (*change.removed, *change.added))


def test_a_service_that_only_one_state_has_is_a_port():
    old = build_shop()
    new = build_shop(
        build_service(
            "more", ports=[{"port": 53, "protocol": "UDP"}], annotations={"maesh.containo.us/traffic-type": "udp"}
        )
    )
    (change,) = compare(old, new, **OPEN).ports
    assert (change.change, change.service, change.port, change.traffic_type) == ("added", "shop/more", "53/udp", "udp")


def test_access_to_a_new_service_is_opened():
    target = build_target("one", "more", ["web"])
    more = [build_service("more"), build_pod("more-0", "10.0.2.1", "more", app="more"), target]
    found = compare(build_shop(target), build_shop(*more), **GUARDED)
    (change,) = found.access
    assert (change.change, change.old.outcome, change.clients) == ("opens", "absent", ("shop/web",))


def test_the_ends_of_a_class_and_of_a_repetition_are_examined():
    rules = build_target("one", "app", ["web"], "group")
    for old, new in (("/[a-y]{9}$", "/[a-z]{9}$"), ("/a[0-9]{1,8}$", "/a[0-9]{1,9}$"), ("/(a|b)$", "/(a|b|c)$")):
        states = [build_shop(rules, build_group("group", (pattern,))) for pattern in (old, new)]
        assert [each.change for each in compare(*states, **GUARDED).access] == ["opens"], new


def test_a_pattern_whose_difference_no_example_shows_may_open_access():
    rules = build_target("one", "app", ["web"], "group")
    old, new = (build_shop(rules, build_group("group", (pattern,))) for pattern in ("/[^x]{9}$", "/[^xq]{9}$"))
    found = compare(old, new, **GUARDED)
    assert not found.access
    (unclear,) = found.unclear
    assert unclear.text == "access rules differ: pattern /[^x]{9}$ is gone and pattern /[^xq]{9}$ is new"
    assert found.opens_access
    assert found.closes_access


def build_route(name, namespace, weight, *, path="/"):
    backends = [{"name": f"app-v{number}", "namespace": "shop", "port": 80} for number in (1, 2)]
    rule = {
        "matches": [{"path": {"type": "PathPrefix", "value": path}}],
        "backendRefs": [{**backends[0], "weight": weight}, {**backends[1], "weight": 100 - weight}],
    }
    parent = {"group": "", "kind": "Service", "name": "app", "namespace": "shop", "port": 80}
    spec = {"parentRefs": [parent], "rules": [rule]}
    return build_object("HTTPRoute", name, "gateway.networking.k8s.io/v1", namespace=namespace, spec=spec)


def test_a_rule_that_begins_to_match_a_path_is_a_route_with_that_path():
    old, new = (build_shop(build_route("one", "shop", 50, path=path)) for path in ("/a", "/b"))
    changes = {each.example.path: each for each in compare(old, new, **OPEN).routes}
    assert changes["/a"].new.outcome == "closed"
    assert changes["/b"].new.goes_to == {"shop/app-v1:80": 0.5, "shop/app-v2:80": 0.5}


def test_a_route_for_the_clients_of_a_namespace_names_that_namespace():
    grant = build_object(
        "ReferenceGrant",
        "grant",
        "gateway.networking.k8s.io/v1beta1",
        spec={
            "from": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "ops"}],
            "to": [{"group": "", "kind": "Service"}],
        },
    )
    old, new = (build_shop(grant, build_route("one", "ops", weight)) for weight in (90, 80))
    (change,) = compare(old, new, **OPEN).routes
    assert change.example.client == "ops/default"
    assert (change.old.goes_to["shop/app-v1:80"], change.new.goes_to["shop/app-v1:80"]) == (0.9, 0.8)


def test_connections_have_no_method_and_path():
    tcp = {"maesh.containo.us/traffic-type": "tcp"}
    route = build_object("TCPRoute", "tcp", "specs.smi-spec.io/v1alpha4", spec={"matches": {"ports": [8080]}})
    more = [build_service("db", annotations=tcp), build_pod("db-0", "10.0.4.1", "db", app="db"), route]
    new = [*more, build_target("db", "db", ["web"], ("TCPRoute", "tcp"))]
    (change,) = compare(build_shop(*more), build_shop(*new), **GUARDED).access
    assert (change.change, change.clients, change.example.method, change.is_every) == ("opens", ("shop/web",), "", True)
    assert (change.old.status, change.requests) == (0, ())


def test_a_service_that_an_error_has_closed_is_opened_by_its_correction():
    target = build_target("one", "app", ["web"])
    wrong = {"maesh.containo.us/retry-attempts": "many"}
    documents = [each for each in build_shop(target) if (each["kind"], each["metadata"]["name"]) != ("Service", "app")]
    found = compare([*documents, build_service("app", annotations=wrong)], build_shop(target), **GUARDED)
    (change,) = found.access
    assert (change.change, change.clients, change.old.outcome) == ("opens", ("shop/web",), "closed")


def test_servers_of_another_account_behind_the_same_service_are_opened():
    both = build_shop(build_pod("other-0", "10.0.1.9", "other", app="app"), build_target("one", "app", ["web"]))
    (change,) = compare(both, [*both, build_target("two", "other", ["web"])], **GUARDED).access
    assert (change.change, change.clients, change.servers) == ("opens", ("shop/web",), ("shop/other",))
    assert (change.old.outcome, change.new.outcome, change.is_every) == ("allowed", "allowed", True)
    (change,) = compare([*both, build_target("two", "other", ["web"])], both, **GUARDED).access
    assert (change.change, change.servers) == ("closes", ("shop/other",))


def test_what_is_not_examined_may_open_access_even_if_something_is_closed(monkeypatch):
    """A change within many rules: the examples of the removed one are examined, but not all others."""
    monkeypatch.setattr(requests, "PATHS_LIMIT", 20)
    rules = build_target("one", "app", ["web"], "group")
    many = [(f"/{place}/", "GET") for place in range(20)]
    old, new = (build_shop(rules, build_group("group", *matches)) for matches in ([("/gone", "PUT"), *many], many))
    found = compare(old, new, **GUARDED)
    assert [each.change for each in found.access] == ["closes"]
    assert found.unclear[0].text.startswith("access rules differ: there are more combinations")
    assert found.opens_access


def test_what_would_be_denied_in_audit_mode_is_a_change_that_closes_nothing():
    old, new = (
        build_state(build_shop(*more), settings={"acl": {"mode": "audit"}}, **GUARDED)
        for more in ((build_target("one", "app", ["web"]),), ())
    )
    found = compare_states(old, new)
    (change,) = [each for each in found.access if each.service == "shop/app"]
    assert (change.change, change.clients, change.old.outcome, change.new.outcome) == (
        "would-deny",
        ("shop/web",),
        "allowed",
        "allowed",
    )
    assert change.new.would_deny
    assert not found.closes_access
    back = compare_states(new, old)
    assert (back.access[0].change, back.opens_access) == ("would-allow", False)


def test_what_cannot_be_read_is_reported_with_its_state():
    broken = build_object("TrafficTarget", "bad", "access.smi-spec.io/v1alpha3", spec={"unknown": 1})
    found = compare(build_shop(), build_shop(broken), **GUARDED)
    assert found.access == ()


# --- laws

PATHS = ("/", "/a", "/a/b", "/b$", "/a/[0-9]+", "/(c|d)/x")
ACCOUNTS = ("web", "batch", "ops")
REQUESTS = [
    (method, path) for method in ("GET", "PUT") for path in ("/", "/a", "/a/b", "/a/7", "/b", "/b/x", "/c/x", "/q")
]
groups = st.lists(st.tuples(st.sampled_from(PATHS), st.sampled_from(("GET", "PUT", "*"))), min_size=1, max_size=2)
targets = st.fixed_dictionaries(
    {
        "to": st.sampled_from(("app", "app-v1")),
        "sources": st.lists(st.sampled_from(ACCOUNTS), min_size=1, max_size=2, unique=True),
        "group": st.none() | groups,
    }
)
policies = st.lists(targets, max_size=3)


def build_policy(policy):
    documents = build_shop(build_pod("ops-0", "10.0.0.3", "ops"))
    for place, each in enumerate(policy):
        name = string.ascii_lowercase[place]
        rules = [] if each["group"] is None else [name]
        documents += [build_target(name, each["to"], each["sources"], *rules)]
        documents += [build_group(name, *each["group"])] if rules else []
    return documents


@settings(max_examples=20)
@given(policies)
def test_equal_states_have_no_difference(policy):
    assert compare(build_policy(policy), build_policy(policy), **GUARDED).is_empty


@settings(max_examples=20)
@given(policies, policies)
def test_every_difference_of_access_is_real_and_none_is_missed(one, other):
    old, new = build_state(build_policy(one), **GUARDED), build_state(build_policy(other), **GUARDED)
    found = compare_states(old, new)
    for change in found.access:
        example = change.example
        for client in change.clients:
            before, after = (ask(state, client, example.service, example.method, example.path) for state in (old, new))
            assert (is_admitted(before), is_admitted(after)) == (change.change == "closes", change.change == "opens")
    reported = {(each.service, client) for each in found.access for client in each.clients}
    for service in ("shop/app", "shop/app-v1"):
        for account in ACCOUNTS:
            verdicts = [
                [is_admitted(ask(state, f"shop/{account}", service, *request)) for request in REQUESTS]
                for state in (old, new)
            ]
            if verdicts[0] != verdicts[1]:
                assert (service, f"shop/{account}") in reported
