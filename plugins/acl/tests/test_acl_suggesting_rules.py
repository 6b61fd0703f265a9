"""Which rules are suggested, how they are written, and what they say to the person who decides."""

import json
import re

import pytest
import yaml
from maesh_acl.suggesting import Observation, PathOptions, suggest
from maesh_acl.suggesting.documents import GROUP_LIMIT
from maesh_acl.suggesting.rendering import render_document, render_yaml
from maesh_acl.suggesting.rules import MANY_PATHS

from maesh_core.plugin import ObjectKey

from .conftest import Cluster, build_group, build_pod, build_route, build_service, build_split, build_target
from .test_acl_suggesting import apply, observe, render

API = [build_service("api"), build_pod("api-1", "10.0.0.1", "api", app="api")]
CLIENTS = [build_pod("client-web", "10.1.0.1", "web"), build_pod("client-batch", "10.1.0.2", "batch")]


def suggest_for(objects, *observations, services=("api",), **options):
    return suggest(render(Cluster(*objects), services), observations, PathOptions(**options))


def list_reasons(found):
    return [each.reason for each in found.left_out]


def list_notes(found):
    return [note for each in found.suggestions for note in each.rule.notes]


# --- objects


def test_a_rule_is_a_route_group_and_a_target_that_names_it():
    found = suggest_for(
        API, observe("web", "api", "GET", "/orders"), observe("web", "api", "POST", "/orders"), observe("web", "api")
    )
    (suggestion,) = found.suggestions
    assert re.fullmatch("web-to-api-[0-9a-f]{6}", suggestion.name)
    metadata = {"name": suggestion.name, "namespace": "shop"}
    account = {"kind": "ServiceAccount", "namespace": "shop"}
    assert list(suggestion.documents) == [
        {
            "apiVersion": "specs.smi-spec.io/v1alpha4",
            "kind": "HTTPRouteGroup",
            "metadata": metadata,
            "spec": {
                "matches": [
                    {"name": "get", "pathRegex": "/$", "methods": ["GET"]},
                    {"name": "get-post-orders", "pathRegex": "/orders$", "methods": ["GET", "POST"]},
                ]
            },
        },
        {
            "apiVersion": "access.smi-spec.io/v1alpha3",
            "kind": "TrafficTarget",
            "metadata": metadata,
            "spec": {
                "destination": {**account, "name": "api"},
                "sources": [{**account, "name": "web"}],
                "rules": [{"kind": "HTTPRouteGroup", "name": suggestion.name}],
            },
        },
    ]


@pytest.mark.parametrize(("kind", "route"), [("tcp", "TCPRoute"), ("udp", "UDPRoute")])
def test_streams_get_a_route_with_the_port_of_the_pods(kind, route):
    protocol = "UDP" if kind == "udp" else "TCP"
    objects = [build_service("api", kind=kind, protocol=protocol, target=5353), API[1]]
    (suggestion,) = suggest_for(objects, observe("web", "api", "", "", traffic_type=kind)).suggestions
    assert (suggestion.documents[0]["kind"], suggestion.documents[0]["spec"]) == (route, {"matches": {"ports": [5353]}})
    assert suggestion.documents[1]["spec"]["rules"] == [{"kind": route, "name": suggestion.name}]


def test_clients_that_need_the_same_share_a_target():
    found = suggest_for(API, observe("web", "api"), observe("batch", "api"), observe("cron", "api", "POST"))
    assert sorted(each.name[:-7] for each in found.suggestions) == ["2-clients-to-api", "cron-to-api"]
    assert [each.rule.count for each in found.suggestions] == [2, 1]


def test_the_same_traffic_always_yields_the_same_objects_and_other_traffic_others():
    one = suggest_for(API, observe("web", "api"), observe("web", "api", "GET", "/a")).suggestions
    again = suggest_for(API, observe("web", "api", "GET", "/a", count=7), observe("web", "api")).suggestions
    other = suggest_for(API, observe("web", "api")).suggestions
    assert [each.documents for each in one] == [each.documents for each in again]
    assert one[0].name != other[0].name


def test_a_client_of_another_namespace_is_named_with_it():
    client = Observation(service="shop/api:80", client=ObjectKey("front", "web"), method="GET", path="/")
    (suggestion,) = suggest_for(API, client).suggestions
    assert suggestion.name.startswith("front-web-to-api-")
    assert suggestion.documents[1]["spec"]["sources"] == [
        {"kind": "ServiceAccount", "name": "web", "namespace": "front"}
    ]


def test_more_matches_than_a_group_may_have_are_in_several_groups():
    paths = [f"/w{number}x" for number in range(GROUP_LIMIT * 2 + 1)]
    (suggestion,) = suggest_for(API, *(observe("web", "api", "GET", path) for path in paths)).suggestions
    sizes = [len(each["spec"].get("matches", ())) for each in suggestion.documents[:-1]]
    assert sizes == [GROUP_LIMIT, GROUP_LIMIT, 1]
    assert [each["name"] for each in suggestion.documents[-1]["spec"]["rules"]] == [
        suggestion.name,
        f"{suggestion.name}-2",
        f"{suggestion.name}-3",
    ]
    cluster = Cluster(*API, *CLIENTS, *suggestion.documents)
    send = cluster.open("api")
    assert all(send("10.1.0.1", "GET", path, {})[0] == 200 for path in (paths[0], paths[-1]))
    assert send("10.1.0.1", "GET", "/other", {})[0] == 403


def test_matches_have_different_names():
    found = suggest_for(API, *(observe("web", "api", "GET", path) for path in ("/a-b", "/a.b", "/a+b", "/" + "z" * 80)))
    names = [match["name"] for match in found.suggestions[0].documents[0]["spec"]["matches"]]
    assert len(set(names)) == 4
    assert max(map(len, names)) <= 60


# --- what else a rule opens


def test_a_port_is_named_if_the_same_pods_serve_others():
    other = build_service("admin", target=9090)
    other["spec"]["selector"] = {"app": "api"}
    found = suggest_for([*API, other], observe("web", "api"), services=("api", "admin"))
    assert found.suggestions[0].documents[1]["spec"]["destination"]["port"] == 8080
    assert found.suggestions[0].rule.also_opens == ()


def test_another_service_of_the_same_account_and_port_is_announced():
    others = [build_service("admin"), build_pod("admin-1", "10.0.0.2", "api", app="admin")]
    found = suggest_for([*API, *others], observe("web", "api"), services=("api", "admin"))
    assert found.suggestions[0].rule.also_opens == ("shop/admin:80",)
    assert list_notes(found) == ["it also opens shop/admin:80: their pods have the same service account api@shop"]


def test_a_rule_for_tcp_announces_http_on_the_same_port():
    objects = [build_service("db", kind="tcp"), build_pod("db-1", "10.0.0.2", "api", app="db"), *API]
    found = suggest_for(objects, observe("web", "db", "", "", traffic_type="tcp"), services=("api", "db"))
    assert found.suggestions[0].rule.also_opens == ("shop/api:80",)


def test_every_backend_of_a_split_is_opened_and_announced():
    objects = [build_service("api"), build_split("canary", "api", {"v1": 1, "v2": 1})]
    for number, name in enumerate(("v1", "v2")):
        objects += [build_service(name), build_pod(f"{name}-1", f"10.0.1.{number}", f"api-{name}", app=name)]
    services = ("api", "v1", "v2")
    topology = render(Cluster(*objects), services)
    (key,) = [each for each in topology["services"]["api@shop"]["additions"]["acl"]["destinations"] if "/" in each[6:]]
    part = observe("web", "api", path="/a", destination=f"{key}/v1", is_part=True)  # as an access log has it
    judged = observe("web", "api", path="/b", destination=key)
    found = suggest_for(objects, part, judged, services=services)
    assert sorted(each.rule.group.account.name for each in found.suggestions) == ["api-v1", "api-v2"]
    assert set(list_notes(found)) == {
        f"it also opens shop/{name}:80 to direct calls, because routes send requests there" for name in ("v1", "v2")
    }
    one = suggest_for(objects, observe("web", "api", destination=key, leaves=("v2@shop",)), services=services)
    assert [each.rule.group.account.name for each in one.suggestions] == ["api-v2"]
    applied = Cluster(*apply([*objects, *CLIENTS], found))
    assert [applied.ask("10.1.0.1", "api", path=path)[0] for path in ("/a", "/b", "/c")] == [200, 200, 403]


def test_pods_without_an_account_of_their_own_are_announced():
    assert list_notes(suggest_for(API, observe("default", "api"))) == [
        "every pod of namespace shop without a service account of its own is default@shop"
    ]


def test_paths_that_stand_for_others_are_announced():
    cut = suggest_for(API, observe("web", "api", "GET", "/long", is_cut=True))
    assert list_notes(cut) == ["it allows paths that only begin like a recorded one, because that was too long"]
    every = suggest_for(API, observe("web", "api", "GET", "", is_cut=True))
    assert list_notes(every) == ["it allows every path, because more paths were called than were recorded"]
    assert every.suggestions[0].documents[0]["spec"]["matches"] == [{"name": "get-all", "methods": ["GET"]}]
    many = suggest_for(API, *(observe("web", "api", "GET", f"/w{number}x") for number in range(MANY_PATHS + 1)))
    assert "--template" in list_notes(many)[0]
    variable = suggest_for(API, *(observe("web", "api", "GET", f"/users/{number}") for number in range(9)))
    assert list_notes(variable) == ["paths with variables stand for several recorded ones: /users/{number}"]


def test_a_path_that_is_too_long_for_a_pattern_is_matched_by_its_beginning():
    found = suggest_for(API, observe("web", "api", "GET", "/" + "a" * 5000))
    (match,) = found.suggestions[0].documents[0]["spec"]["matches"]
    assert match["pathRegex"] == "/" + "a" * 1023


# --- what is allowed already


def test_what_existing_targets_allow_is_not_suggested():
    group = build_group("reads", {"name": "reads", "pathRegex": "/orders", "methods": ["GET"]})
    target = build_target("web-may-read", "api", ["web"], [("HTTPRouteGroup", "reads")])
    requests = [observe("web", "api", "GET", "/orders/1"), observe("web", "api", "POST", "/orders")]
    found = suggest_for([*API, *CLIENTS, group, target], *requests, observe("batch", "api", "GET", "/orders/1"))
    assert found.allowed == 1
    assert {(each.rule.clients[0].name, each.rule.requests[0].methods) for each in found.suggestions} == {
        ("batch", ("GET",)),
        ("web", ("POST",)),
    }


def test_a_target_for_some_of_the_pods_does_not_allow_the_others():
    objects = [*API, *CLIENTS, build_pod("api-2", "10.0.0.2", "other", app="api"), build_target("t", "api", ["web"])]
    found = suggest_for(objects, observe("web", "api"))
    assert [each.rule.group.account.name for each in found.suggestions] == ["other"]


def test_a_rule_about_headers_allows_nothing_that_was_observed_without_them():
    group = build_group("beta", {"name": "beta", "headers": [{"x-group": "beta"}]})
    target = build_target("t", "api", ["web"], [("HTTPRouteGroup", "beta")])
    assert len(suggest_for([*API, *CLIENTS, group, target], observe("web", "api")).suggestions) == 1


def test_a_stream_that_a_target_allows_is_not_suggested():
    objects = [build_service("api", kind="tcp"), API[1], *CLIENTS, build_route("TCPRoute", "all")]
    target = build_target("t", "api", ["web"], [("TCPRoute", "all")])
    found = suggest_for([*objects, target], observe("web", "api", "", "", traffic_type="tcp", count=4))
    assert (found.suggestions, found.allowed) == ((), 4)


# --- what no rule can allow


@pytest.mark.parametrize(
    ("observation", "reason"),
    [
        (
            Observation(service="shop/api:80", client=None, address="10.9.9.9"),
            "the client has no service account that the mesh knows",
        ),
        (observe("web", "gone"), "the mesh has no http service port shop/gone:80"),
        (
            observe("web", "api", traffic_type="tcp"),
            "service port shop/api:80 is http now, and not tcp",
        ),
        (
            observe("web", "api", destination="shop/api:80/split/old"),
            "service port shop/api:80 has no route shop/api:80/split/old now",
        ),
        (observe("web", "api", "get"), "rules write methods in upper case, so they cannot allow this one"),
        (observe("web", "api", "GET", "/a/../b"), "the path is ambiguous, and rules with paths never allow that"),
        (observe("web", "api", "*", "/a"), "rules cannot name its method"),
        (observe("web", "api", "GET, *", "/a"), "rules cannot name its method"),
        (observe("web", "api", "", "", is_cut=True), "rules cannot name its method"),
    ],
)
def test_what_no_rule_can_allow_is_left_out_with_the_reason(observation, reason):
    found = suggest_for(API, observation, observation)
    assert (found.suggestions, list_reasons(found), found.left_out[0].count) == ((), [reason], 2)


def test_a_service_without_pods_of_an_account_can_have_no_rule():
    found = suggest_for([build_service("api")], observe("web", "api"))
    assert list_reasons(found) == [
        "service port shop/api:80 has no servers with a service account now, and rules apply to nothing else"
    ]


def test_a_service_outside_of_the_mesh_can_have_a_rule_if_its_annotation_names_an_account():
    topology = render(Cluster(*API), ["api"])
    service = topology["services"]["api@shop"]
    service["ports"][0]["servers"] = [{"address": "api.example.com", "port": 443, "isName": True}]
    requests = [observe("web", "api", "GET", "/a")]
    assert suggest(topology, requests).suggestions == ()
    service["annotations"] = {"maesh.containo.us/service-account": "outside"}
    (found,) = suggest(topology, requests).suggestions
    assert found.documents[-1]["spec"]["destination"] == {
        "kind": "ServiceAccount",
        "name": "outside",
        "namespace": "shop",
    }


# --- output


def test_the_yaml_has_what_is_applied_and_comments_that_nobody_can_leave():
    hostile = observe("web", "api", "GET", "/x\n---\nkind: Evil\u2028kind: Evil", first="2026-01-01T00:00:00Z")
    left = observe("web", "api", "GET", "/../b\n---\nkind: Evil")
    found = suggest_for(API, hostile, left)
    text = render_yaml(found, ["a remark\nkind: Evil"])
    documents = [each for each in yaml.safe_load_all(text) if each is not None]
    assert documents == [json.loads(json.dumps(each)) for each in found.suggestions[0].documents]
    assert "\u2028" not in text
    assert text.splitlines()[:4] == [
        "# 1 TrafficTarget allows what was observed and no rule allows yet; read before applying",
        "# left out: 1 request: the path is ambiguous, and rules with paths never allow that; for example web@shop to"
        " shop/api:80: GET /../b --- kind: Evil",
        "# a remark kind: Evil",
        "---",
    ]


def test_without_suggestions_the_yaml_is_a_comment():
    assert render_yaml(suggest_for(API)) == "# nothing was observed, so there is nothing to suggest"
    target = build_target("t", "api", ["web"])
    text = render_yaml(suggest_for([*API, *CLIENTS, target], observe("web", "api")))
    assert text == "# there is nothing to suggest\n# allowed already: 1 request"


def test_the_document_has_the_rules_in_words_and_as_objects():
    document = render_document(suggest_for(API, observe("web", "api", "GET", "/a", count=3)))
    (found,) = document["suggestions"]
    assert found["clients"] == [{"namespace": "shop", "serviceAccount": "web"}]
    assert found["requests"] == [{"pathRegex": "/a$", "path": "/a", "methods": ["GET"]}]
    assert [each["kind"] for each in found["objects"]] == ["HTTPRouteGroup", "TrafficTarget"]
    json.dumps(document)
