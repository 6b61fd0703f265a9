"""Audit mode: whose mode decides, what passes and is recorded, and what is denied nevertheless."""

import json
from typing import Any

import msgspec
import pytest
from maesh_acl import AccessSettings
from maesh_acl.denials.report import TARGETS_LIMIT
from maesh_acl.granting.explaining import explain_access

from .conftest import build_group, build_object, build_pod, build_route, build_service, build_split, build_target

WEB, APP, OTHER = "10.0.0.1", "10.0.0.2", "10.0.0.3"
PODS = (build_pod("web-0", WEB, "web"), build_pod("app-0", APP, "app", app="app"))
READ = build_group("read", {"name": "get", "methods": ["GET"], "pathRegex": "/a"})
ALLOWS_READING = (READ, build_target("t", "app", ["web"], [("HTTPRouteGroup", "read")]))
AUDIT = AccessSettings(mode="audit")


def annotate(document, mode):
    metadata = document["metadata"]
    metadata["annotations"] = {**metadata.get("annotations", {}), "maesh.containo.us/acl-mode": mode}
    return document


def build_namespace(mode):
    found = build_object("Namespace", "shop")
    del found["metadata"]["namespace"]
    return annotate(found, mode)


def read_denials(cluster):
    """Read the entries of the report, as `(mode, reason, destinations, method, path, count)`."""
    report = msgspec.json.decode(cluster.factory.build_report())
    return [
        (key["mode"], key["reason"], key["destinations"], key.get("method", ""), key.get("path", ""), each["count"])
        for each in report["denials"]
        for key in [each["key"]]
    ]


def read_targets(cluster):
    """Read the path and the TrafficTargets of each entry of the report."""
    report = msgspec.json.decode(cluster.factory.build_report())
    return [(each["key"]["path"], each["key"].get("trafficTargets", [])) for each in report["denials"]]


def read_metrics(cluster):
    return {family.name: dict(family.samples) for family in cluster.factory.collect_metrics()}


def test_in_the_mode_of_the_mesh_everything_passes_and_denials_are_recorded(cluster):
    shop = cluster(*PODS, build_service("app"), *ALLOWS_READING, settings=AUDIT)
    assert shop.ask(WEB, "app", path="/a") == (200, None)
    assert shop.ask(WEB, "app", path="/b?secret") == (200, None)
    assert shop.ask(WEB, "app", path="/b") == (200, None)
    assert shop.ask(OTHER, "app", path="/a") == (200, None)
    assert read_denials(shop) == [
        ("audit", "request", ["app@shop"], "GET", "/b", 2),
        ("audit", "client", ["app@shop"], "GET", "/a", 1),
    ]
    assert read_metrics(shop)["maesh_acl_would_deny"] == {("shop/app:80", "request"): 2, ("shop/app:80", "client"): 1}
    assert read_metrics(shop)["maesh_acl_denied"] == {}


def test_what_is_denied_is_recorded_too(cluster):
    shop = cluster(*PODS, build_service("app"), *ALLOWS_READING)
    assert shop.ask(WEB, "app", path="/b") == (403, None)
    assert read_denials(shop) == [("enforce", "request", ["app@shop"], "GET", "/b", 1)]
    assert read_metrics(shop)["maesh_acl_would_deny"] == {}


@pytest.mark.parametrize(
    ("mesh", "allowed", "namespace", "service", "status"),
    [
        ("enforce", "namespace", "audit", None, 200),
        ("enforce", "namespace", None, "audit", 403),
        ("enforce", "service", None, "audit", 200),
        ("enforce", "service", "audit", None, 200),
        ("enforce", "none", "audit", "audit", 403),
        ("audit", "none", "enforce", None, 403),
        ("audit", "none", None, "enforce", 403),
        ("audit", "none", None, None, 200),
        ("enforce", "service", "enforce", "audit", 200),
        ("enforce", "service", "audit", "enforce", 403),
        ("audit", "service", "nonsense", None, 403),
        ("audit", "namespace", "audit", "enforce", 403),
        ("enforce", "namespace", "audit", "audit", 200),
    ],
)
def test_the_closest_mode_that_may_be_set_decides(cluster, mesh, allowed, namespace, service, status):
    objects = [annotate(build_service("app"), service) if service else build_service("app")]
    objects += [build_namespace(namespace)] if namespace else []
    shop = cluster(*PODS, *objects, settings=AccessSettings(mode=mesh, audit_by_annotation=allowed))
    assert shop.ask(WEB, "app")[0] == status


@pytest.mark.parametrize("address", ["10.9.0.1", "10.96.0.9"])
@pytest.mark.parametrize("settings", [AccessSettings(), AUDIT])
def test_endpoints_in_a_namespace_in_audit_mode_do_not_open_the_pods_of_others(cluster, address, settings):
    service = build_service("app")
    del service["spec"]["selector"]
    endpoints = build_object(
        "EndpointSlice", "app", "discovery.k8s.io/v1", labels={"kubernetes.io/service-name": "app"}
    )
    endpoints |= {"addressType": "IPv4", "endpoints": [{"addresses": [address]}], "ports": [{"port": 8080}]}
    spec = {"clusterIP": "10.96.0.9", "ports": [{"port": 8080}]}
    bank = build_object("Namespace", "bank")
    del bank["metadata"]["namespace"]
    others = [build_pod("vault-0", "10.9.0.1", "vault", namespace="bank")]
    others.append(build_object("Service", "vault", namespace="bank", spec=spec))
    objects = (*PODS, *others, service, endpoints, build_namespace("audit"))
    shop = cluster(*objects, annotate(bank, "enforce"), settings=settings)
    assert shop.ask(WEB, "app") == (403, None)
    assert any("access control is enforced in namespace bank" in each for each in shop.build_node("app").notices)
    open_ = cluster(*objects, annotate(bank, "audit"), settings=settings)
    assert open_.ask(WEB, "app") == (200, None)


@pytest.mark.parametrize(("exists", "status"), [(True, 200), (False, 403)])
def test_a_pod_in_audit_mode_may_have_the_address_of_its_node(cluster, exists, status):
    service = build_service("app")
    endpoints = build_object(
        "EndpointSlice", "app", "discovery.k8s.io/v1", labels={"kubernetes.io/service-name": "app"}
    )
    endpoint = {"addresses": ["10.9.0.1"], "targetRef": {"kind": "Pod", "name": "app-0", "namespace": "shop"}}
    endpoints |= {"addressType": "IPv4", "endpoints": [endpoint], "ports": [{"port": 8080}]}
    pods = [build_pod("agent-0", "10.9.0.1", "agent", namespace="bank")]
    pods += [build_pod("app-0", "10.9.0.1", "app", app="app")] if exists else []
    shop = cluster(*pods, build_pod("web-0", WEB, "web"), service, endpoints, build_namespace("audit"))
    assert shop.ask(WEB, "app")[0] == status


def test_an_annotation_without_effect_is_a_notice(cluster):
    shop = cluster(*PODS, annotate(build_service("app"), "audit"))
    assert (
        "acl: annotation acl-mode of service app@shop has no effect: acl.audit-by-annotation is namespace"
        in shop.build_node("app").notices
    )
    none = cluster(
        *PODS, build_service("app"), build_namespace("audit"), settings=AccessSettings(audit_by_annotation="none")
    )
    assert (
        "acl: annotation acl-mode of namespace shop has no effect: acl.audit-by-annotation is none"
        in none.build_node("app").notices
    )
    wrong = cluster(*PODS, build_service("app"), build_namespace("log"))
    assert any("annotation acl-mode: 'log'" in notice for notice in wrong.build_node("app").notices)


def test_a_port_may_have_a_mode_of_its_own(cluster):
    service = build_service("app")
    service["metadata"]["annotations"] = {"maesh.containo.us/80.acl-mode": "enforce"}
    found = cluster(*PODS, service, settings=AUDIT).build_node("app").additions["acl"].destinations
    assert [leaf.is_audited for leaf in found["shop/app:80"]] == [False]


def test_an_enforced_leaf_of_a_split_denies_what_goes_to_a_service_in_audit_mode(cluster):
    pods = (*PODS, build_pod("v1-0", "10.0.1.1", "v1", app="v1"), build_pod("v2-0", "10.0.1.2", "v2", app="v2"))
    services = (build_service("app"), build_service("v1"), annotate(build_service("v2"), "enforce"))
    split = build_split("s", "app", {"v1": 1, "v2": 1})
    shop = cluster(*pods, *services, split, settings=AUDIT)
    assert shop.ask(WEB, "app") == (403, None)
    allowed = cluster(*pods, *services, split, build_target("t", "v2", ["web"]), settings=AUDIT)
    assert allowed.ask(WEB, "app") == (200, None)
    assert read_denials(allowed) == [("audit", "client", ["v1@shop"], "GET", "/", 1)]


def test_a_target_in_audit_mode_opens_its_destination_to_its_sources_only(cluster):
    target = annotate(build_target("t", "app", ["web"], [("HTTPRouteGroup", "read")]), "audit")
    shop = cluster(*PODS, build_pod("else-0", OTHER, "else"), build_service("app"), READ, target)
    assert shop.ask(WEB, "app", path="/a")[0] == 200
    assert shop.ask(WEB, "app", path="/b")[0] == 200
    assert shop.ask(OTHER, "app", path="/a")[0] == 403
    assert read_denials(shop) == [
        ("audit", "request", ["app@shop"], "GET", "/b", 1),
        ("enforce", "client", ["app@shop"], "GET", "/a", 1),
    ]


@pytest.mark.parametrize("settings", [AccessSettings(), AUDIT])
def test_a_denial_names_the_targets_that_allow_the_client_other_requests(cluster, settings):
    others = (
        build_target("u", "app", ["web", "else"], [("HTTPRouteGroup", "read")]),
        build_pod("else-0", OTHER, "else"),
    )
    shop = cluster(*PODS, *others, build_service("app"), *ALLOWS_READING, settings=settings)
    shop.ask(WEB, "app", path="/b")
    shop.ask(OTHER, "app", path="/c")
    shop.ask("10.0.0.9", "app", path="/d")
    assert read_targets(shop) == [("/b", ["t@shop", "u@shop"]), ("/c", ["u@shop"]), ("/d", [])]


def test_a_request_that_passes_by_a_target_in_audit_mode_is_counted_under_its_name(cluster):
    audited = annotate(build_target("u", "app", ["web"], [("HTTPRouteGroup", "read")]), "audit")
    shop = cluster(*PODS, build_service("app"), *ALLOWS_READING, audited)
    assert shop.ask(WEB, "app", path="/b")[0] == 200
    assert read_targets(shop) == [("/b", ["u@shop"])]


def test_the_number_of_targets_of_a_denial_is_limited(cluster):
    targets = [build_target(f"t{number}", "app", ["web"], [("HTTPRouteGroup", "read")]) for number in range(20)]
    shop = cluster(*PODS, build_service("app"), READ, *targets)
    shop.ask(WEB, "app", path="/b")
    assert [len(found) for _, found in read_targets(shop)] == [TARGETS_LIMIT]


def test_a_target_in_audit_mode_opens_only_the_pods_and_ports_that_it_names(cluster):
    pods = (*PODS, build_pod("app-1", "10.0.0.9", "more", app="app"))
    target = annotate(build_target("t", "app", ["web"], [("HTTPRouteGroup", "read")]), "audit")
    shop = cluster(*pods, build_service("app"), READ, target)
    assert shop.ask(WEB, "app", path="/b") == (200, frozenset({(APP, 8080)}))


def test_a_target_with_an_unknown_mode_or_a_missing_group_grants_nothing(cluster):
    unknown = annotate(build_target("t", "app", ["web"]), "log")
    assert cluster(*PODS, build_service("app"), unknown).ask(WEB, "app")[0] == 403
    missing = annotate(build_target("t", "app", ["web"], [("HTTPRouteGroup", "none")]), "audit")
    assert cluster(*PODS, build_service("app"), missing).ask(WEB, "app")[0] == 403


def test_a_target_in_audit_mode_without_a_route_of_the_kind_opens_no_tcp_service(cluster):
    target = annotate(build_target("t", "app", ["web"], [("HTTPRouteGroup", "read")]), "audit")
    shop = cluster(*PODS, build_service("app", kind="tcp"), READ, target)
    assert shop.connect(WEB, "app") == (False, None)


@pytest.mark.parametrize(("kind", "protocol"), [("tcp", "TCP"), ("udp", "UDP")])
def test_connections_and_sessions_pass_and_are_recorded(cluster, kind, protocol):
    shop = cluster(*PODS, build_service("app", kind=kind, protocol=protocol), settings=AUDIT)
    assert shop.connect(WEB, "app") == (True, None)
    assert read_denials(shop) == [("audit", "client", ["app@shop"], "", "", 1)]
    report = json.loads(shop.factory.build_report())
    assert report["denials"][0]["key"]["trafficType"] == kind


def test_in_audit_mode_a_client_with_some_servers_may_reach_all(cluster):
    pods = (*PODS, build_pod("app-1", "10.0.0.9", "more", app="app"))
    shop = cluster(*pods, build_service("app"), build_target("t", "app", ["web"]), settings=AUDIT)
    assert shop.ask(WEB, "app") == (200, None)
    assert read_denials(shop) == []


class FakeQuestion:
    client_address, client_account, client_pods = WEB, "web@shop", ()
    destination, traffic_type, is_http = "shop/app:80", "http", True
    method, target, client_headers = b"GET", b"/b", {}
    problems, topology = {}, {}

    def __init__(self, **fields):
        vars(self).update(fields)


def explain(shop, **fields):
    question: Any = FakeQuestion(**fields)
    return explain_access(shop.build_node("app").additions["acl"], question)


def test_explain_says_what_would_be_denied(cluster):
    shop = cluster(*PODS, build_service("app"), *ALLOWS_READING, settings=AUDIT)
    verdict = explain(shop)
    assert verdict.is_admitted
    assert verdict.reasons == ("service app is in audit mode: it passes, and is recorded",)
    assert verdict.would_deny == (
        "TrafficTarget t@shop allows the client, but not this request: no match applies to it",
    )
    allowed = explain(shop, target=b"/a")
    assert (allowed.is_admitted, allowed.would_deny) == (True, ())


def test_explain_names_the_target_in_audit_mode(cluster):
    target = annotate(build_target("t", "app", ["web"], [("HTTPRouteGroup", "read")]), "audit")
    shop = cluster(*PODS, build_service("app"), READ, target)
    verdict = explain(shop)
    assert verdict.reasons == ("TrafficTarget t@shop is in audit mode: it passes, and is recorded",)
    assert verdict.would_deny
    stranger = explain(shop, client_address=OTHER)
    assert not stranger.is_admitted


def test_a_target_in_audit_mode_with_a_tcp_route_is_an_ordinary_one(cluster):
    target = annotate(build_target("t", "app", ["web"], [("TCPRoute", "r")]), "audit")
    shop = cluster(*PODS, build_service("app", kind="tcp"), build_route("TCPRoute", "r"), target)
    assert shop.connect(WEB, "app") == (True, None)
    assert read_denials(shop) == []
