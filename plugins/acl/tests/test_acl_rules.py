"""Who is let in, rule by rule: everything else is denied."""

import pytest
from maesh_acl import AccessSettings

from .conftest import (
    build_group,
    build_object,
    build_pod,
    build_route,
    build_service,
    build_split,
    build_target,
)

CLIENT, STRANGER, SERVER = "10.0.0.1", "10.0.0.2", "10.0.1.1"
BASE = (
    build_pod("client", CLIENT, "caller"),
    build_pod("stranger", STRANGER, "other"),
    build_pod("web-1", SERVER, "server", app="web"),
    build_service("web"),
)
OPEN = build_target("open", "server", ["caller"])
API = build_group(
    "api", {"name": "read", "pathRegex": "/api", "methods": ["GET"]}, {"name": "any", "pathRegex": "/all"}
)


def test_without_a_target_no_client_is_allowed(cluster):
    assert cluster(*BASE).ask(CLIENT, "web") == (403, None)


def test_a_target_allows_its_sources_and_no_other_client(cluster):
    found = cluster(*BASE, OPEN)
    assert found.ask(CLIENT, "web") == (200, None)
    assert found.ask(STRANGER, "web") == (403, None)
    assert found.ask("203.0.113.9", "web") == (403, None)
    counts = dict(found.factory.collect_metrics()[0].samples)
    assert counts == {("shop/web:80", "client"): 2.0}


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-For": CLIENT},
        {"X-Real-Ip": CLIENT},
        {"Forwarded": f"for={CLIENT}"},
        {"X-Http-Method-Override": "GET"},
    ],
)
def test_no_header_says_who_a_client_is_or_what_it_asks(cluster, headers):
    found = cluster(*BASE, build_target("t", "server", ["caller"], [("HTTPRouteGroup", "api")]), API)
    assert found.ask(STRANGER, "web", path="/api", headers=headers)[0] == 403
    assert found.ask(CLIENT, "web", path="/api", method="POST", headers=headers)[0] == 403


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/x", 200),
        ("POST", "/api/x", 403),
        ("POST", "/all", 200),
        ("GET", "/", 403),
        ("GET", "/API", 403),
        ("GET", "/x?/api", 403),
        ("GET", "/api/../admin", 403),
        ("GET", "/api/%2e%2e/admin", 403),
        ("GET", "//api", 403),
        ("GET", "/api//x", 403),
        ("GET", "/api%2fx", 403),
        ("GET", "/api;x=1", 200),
        ("GET", "/api/%41", 200),
    ],
)
def test_a_route_group_opens_what_its_matches_say(cluster, method, path, status):
    found = cluster(*BASE, build_target("t", "server", ["caller"], [("HTTPRouteGroup", "api")]), API)
    assert found.ask(CLIENT, "web", method=method, path=path)[0] == status


def test_matches_are_chosen_by_name(cluster):
    found = cluster(*BASE, build_target("t", "server", ["caller"], [("HTTPRouteGroup", "api", "any")]), API)
    assert [found.ask(CLIENT, "web", path=path)[0] for path in ("/all", "/api")] == [200, 403]


def test_an_unlimited_grant_lets_a_path_pass_that_could_be_taken_for_another(cluster):
    found = cluster(*BASE, OPEN, build_target("t", "server", ["caller"], [("HTTPRouteGroup", "api")]), API)
    assert found.ask(CLIENT, "web", path="/a/../b")[0] == 200


def test_targets_add_up_also_those_of_one_name_in_two_namespaces(cluster):
    other = build_target("t", "server", ["other"])
    other["metadata"]["namespace"] = "elsewhere"
    target = build_target("t", "server", ["caller"], [("HTTPRouteGroup", "api")])
    found = cluster(*BASE, target, API, other, settings=AccessSettings(own_namespace_only=False))
    assert found.ask(CLIENT, "web", path="/api")[0] == 200
    assert found.ask(STRANGER, "web", path="/anything")[0] == 200


@pytest.mark.parametrize(
    "rules",
    [
        [("HTTPRouteGroup", "nobody")],
        [("HTTPRouteGroup", "api", "no-such-match")],
        [("TCPRoute", "nobody")],
        [("HTTPRouteGroup", "api"), ("TCPRoute", "nobody")],
        [("GRPCRoute", "api")],
        [("HTTPRouteGroup", "bad")],
    ],
)
def test_a_target_that_names_what_is_not_there_grants_nothing_and_says_so(cluster, rules):
    bad = build_group("bad", {"name": "m", "pathRegex": "("})
    found = cluster(*BASE, API, bad, build_target("t", "server", ["caller"], rules))
    assert found.ask(CLIENT, "web", path="/api")[0] == 403
    node = found.build_node("web")
    assert node.sections["serviceTrafficTargets"]["web@shop:t@shop"].errors
    assert any("TrafficTarget t@shop" in text and "grants nothing" in text for text in node.notices)


def test_a_tcp_route_alone_opens_http_for_every_path_and_beside_a_group_none(cluster):
    alone = cluster(*BASE, build_route("TCPRoute", "r"), build_target("t", "server", ["caller"], [("TCPRoute", "r")]))
    assert alone.ask(CLIENT, "web", path="/any")[0] == 200
    rules = [("TCPRoute", "r"), ("HTTPRouteGroup", "api")]
    beside = cluster(*BASE, API, build_route("TCPRoute", "r"), build_target("t", "server", ["caller"], rules))
    assert [beside.ask(CLIENT, "web", path=path)[0] for path in ("/api", "/any")] == [200, 403]


def test_a_udp_route_opens_nothing_of_http(cluster):
    rules = [("UDPRoute", "r")]
    found = cluster(*BASE, build_route("UDPRoute", "r"), build_target("t", "server", ["caller"], rules))
    assert found.ask(CLIENT, "web")[0] == 403


@pytest.mark.parametrize(("port", "status"), [(8080, 200), ("8080", 200), (80, 403), (8081, 403), ("x", 403), (0, 403)])
def test_the_destinations_port_is_the_pods(cluster, port, status):
    assert cluster(*BASE, build_target("t", "server", ["caller"], port=port)).ask(CLIENT, "web")[0] == status


@pytest.mark.parametrize(
    "port", ["9" * 5000, "000001" + "0" * 5000, "0" * 5000, "8080 ", "+8080", "80_80", "\u0668", ""]
)
def test_a_port_that_is_none_takes_nothing_from_the_other_targets(cluster, port):
    bad = build_target("bad", "server", ["caller"], port=port)
    assert cluster(*BASE, bad).ask(CLIENT, "web")[0] == 403
    assert cluster(*BASE, bad, build_target("t", "server", ["caller"])).ask(CLIENT, "web")[0] == 200


@pytest.mark.parametrize(("ports", "status"), [((), 200), ((8080,), 200), ((1, 8080), 200), ((80,), 403)])
def test_a_tcp_routes_ports_are_the_pods(cluster, ports, status):
    rules = [("TCPRoute", "r")]
    found = cluster(*BASE, build_route("TCPRoute", "r", ports), build_target("t", "server", ["caller"], rules))
    assert found.ask(CLIENT, "web")[0] == status


def test_only_pods_of_the_destinations_account_get_what_it_grants(cluster):
    second = build_pod("web-2", "10.0.1.2", "batch", app="web")
    found = cluster(*BASE, second, OPEN)
    assert found.ask(CLIENT, "web") == (200, frozenset({(SERVER, 8080)}))
    both = cluster(*BASE, second, OPEN, build_target("more", "batch", ["caller"]))
    assert both.ask(CLIENT, "web") == (200, frozenset({(SERVER, 8080), ("10.0.1.2", 8080)}))


def test_a_source_without_namespace_allows_no_client(cluster):
    target = build_target("t", "server", ["caller"])
    del target["spec"]["sources"][0]["namespace"]
    assert cluster(*BASE, target).ask(CLIENT, "web")[0] == 403


def test_an_address_of_two_pods_identifies_no_client(cluster):
    found = cluster(*BASE, OPEN, build_pod("twin", CLIENT, "other"))
    assert found.ask(CLIENT, "web")[0] == 403
    assert "identifies no client" in " ".join(found.build_node("web").notices)


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_the_address_of_a_pod_that_has_ended_identifies_no_client(cluster, phase):
    ended = build_pod("client", CLIENT, "caller", phase=phase)
    assert cluster(ended, *BASE[1:], OPEN).ask(CLIENT, "web")[0] == 403
    heir = build_pod("heir", CLIENT, "other")
    assert cluster(ended, heir, *BASE[1:], OPEN).ask(CLIENT, "web")[0] == 403


LEAVES = (
    build_pod("v1-1", "10.0.2.1", "one", app="v1"),
    build_pod("v2-1", "10.0.2.2", "two", app="v2"),
    build_service("v1"),
    build_service("v2"),
)
ONE, TWO = build_target("one", "one", ["caller"]), build_target("two", "two", ["caller"])


@pytest.mark.parametrize(
    ("targets", "weights", "status"),
    [
        ([ONE, TWO], {"v1": 1, "v2": 1}, 200),
        ([ONE], {"v1": 1, "v2": 1}, 403),
        ([ONE], {"v1": 1, "v2": 0}, 200),
        ([OPEN], {"v1": 1, "v2": 1}, 403),
        ([OPEN, ONE, TWO], {"v1": 0, "v2": 0}, 403),
        ([OPEN, ONE], {"nobody": 1}, 403),
    ],
)
def test_a_client_of_a_split_must_be_allowed_on_every_leaf_with_weight(cluster, targets, weights, status):
    found = cluster(*BASE, *LEAVES, *targets, build_split("s", "web", weights))
    assert found.ask(CLIENT, "web")[0] == status


def test_a_leaf_without_pods_has_no_say_while_others_have_its_share(cluster):
    leaves = (*LEAVES[:1], *LEAVES[2:])  # v2 has no pod
    found = cluster(*BASE, *leaves, ONE, build_split("s", "web", {"v1": 1, "v2": 9}))
    assert found.ask(CLIENT, "web")[0] == 200
    alone = cluster(*BASE, *leaves, ONE, build_split("s", "web", {"v2": 9}))
    assert alone.ask(CLIENT, "web")[0] == 403


def test_splits_below_splits_are_judged_by_their_leaves(cluster):
    below = build_split("below", "v1", {"v2": 1})
    found = cluster(*BASE, *LEAVES, below, build_split("s", "web", {"v1": 1}), TWO)
    assert found.ask(CLIENT, "web")[0] == 200
    assert cluster(*BASE, *LEAVES, below, build_split("s", "web", {"v1": 1}), ONE).ask(CLIENT, "web")[0] == 403


def test_what_a_split_does_not_match_is_the_services_own_to_allow(cluster):
    found = cluster(*BASE, *LEAVES, API, OPEN, build_split("s", "web", {"v1": 1}, ["api"]))
    assert [found.ask(CLIENT, "web", path=path)[0] for path in ("/other", "/api")] == [200, 403]


def build_stream(kind):
    protocol = "UDP" if kind == "udp" else "TCP"
    return (*BASE[:3], build_service("web", kind=kind, protocol=protocol))


@pytest.mark.parametrize(("kind", "route"), [("tcp", "TCPRoute"), ("udp", "UDPRoute")])
def test_streams_are_opened_by_a_route_of_theirs_alone_and_by_source(cluster, kind, route):
    rules = [(route, "r")]
    found = cluster(*build_stream(kind), build_route(route, "r"), build_target("t", "server", ["caller"], rules))
    assert found.connect(CLIENT, "web") == (True, None)
    assert found.connect(STRANGER, "web") == (False, None)
    assert cluster(*build_stream(kind), OPEN).connect(CLIENT, "web") == (False, None)
    other = "TCPRoute" if kind == "udp" else "UDPRoute"
    wrong = cluster(
        *build_stream(kind), build_route(other, "r"), build_target("t", "server", ["caller"], [(other, "r")])
    )
    assert wrong.connect(CLIENT, "web") == (False, None)


@pytest.mark.parametrize(("ports", "is_open"), [((8080,), True), ((80,), False)])
def test_a_routes_ports_narrow_a_stream(cluster, ports, is_open):
    found = cluster(
        *build_stream("tcp"),
        build_route("TCPRoute", "r", ports),
        build_target("t", "server", ["caller"], [("TCPRoute", "r")]),
    )
    assert found.connect(CLIENT, "web")[0] is is_open


def test_a_split_of_streams_needs_every_leaf_too(cluster):
    streams = [
        *build_stream("tcp"),
        *LEAVES[:2],
        build_service("v1", kind="tcp"),
        build_service("v2", kind="tcp"),
        build_split("s", "web", {"v1": 1, "v2": 1}),
        build_route("TCPRoute", "r"),
    ]
    grants = [build_target(name, name, ["caller"], [("TCPRoute", "r")]) for name in ("one", "two")]
    assert cluster(*streams, *grants).connect(CLIENT, "web")[0] is True
    assert cluster(*streams, grants[0]).connect(CLIENT, "web")[0] is False


@pytest.mark.parametrize(("kind", "target"), [("", 8080), ("tcp", 8080), ("udp", 9999)])
@pytest.mark.parametrize("granted", [8080, 9999])
def test_ports_of_one_number_and_two_protocols_are_judged_apart(cluster, kind, target, granted):
    service = build_service("web", kind=kind)
    service["spec"]["ports"] = [
        {"name": "u", "port": 80, "targetPort": 9999, "protocol": "UDP"},
        {"name": "t", "port": 80, "targetPort": 8080, "protocol": "TCP"},
    ]
    rules = [("TCPRoute", "t"), ("UDPRoute", "u")]
    grant = build_target("t", "server", ["caller"], rules, port=granted)
    found = cluster(*BASE[:3], service, build_route("TCPRoute", "t"), build_route("UDPRoute", "u"), grant)
    is_let_in = found.connect(CLIENT, "web")[0] if kind else found.ask(CLIENT, "web")[0] == 200
    assert is_let_in is (target == granted)


def test_an_address_is_the_same_however_it_is_spelt(cluster):
    client = build_pod("client", "FD00::9", "caller")
    found = cluster(client, *BASE[1:], OPEN)
    assert found.ask("fd00::9", "web")[0] == 200
    twin = build_pod("twin", "fd00:0::9", "other")
    assert cluster(client, twin, *BASE[1:], OPEN).ask("fd00::9", "web")[0] == 403


def test_every_address_of_a_pod_is_its_own(cluster):
    client = build_pod("client", CLIENT, "caller")
    client["status"]["podIPs"] = [{"ip": CLIENT}, {"ip": "fd00::1"}]
    found = cluster(client, *BASE[1:], OPEN)
    assert [found.ask(address, "web")[0] for address in (CLIENT, "fd00::1", "fd00::2")] == [200, 200, 403]


def test_a_pod_with_its_nodes_address_identifies_no_client(cluster):
    client = build_pod("client", CLIENT, "caller")
    client["spec"]["hostNetwork"] = True
    found = cluster(client, *BASE[1:], OPEN)
    assert found.ask(CLIENT, "web")[0] == 403
    assert any("its node's address" in text for text in found.build_node("web").notices)


@pytest.mark.parametrize(("path", "method"), [("/p/..;/admin", "GET"), ("*", "OPTIONS")])
def test_what_is_no_path_below_a_rule_is_not_let_in_by_it(cluster, path, method):
    group = build_group("p", {"name": "m", "pathRegex": "/p/.*" if path != "*" else "/"})
    found = cluster(*BASE, build_target("t", "server", ["caller"], [("HTTPRouteGroup", "p")]), group)
    assert found.ask(CLIENT, "web", path=path, method=method)[0] == 403


def test_a_port_that_no_pod_serves_is_reported_on_the_target(cluster):
    found = cluster(*BASE, build_target("t", "server", ["caller"], port=81))
    (text,) = found.build_node("web").sections["serviceTrafficTargets"]["web@shop:t@shop"].errors
    assert text == "port 81 of the destination is not a port of service web's pods"


def build_slice(*endpoints):
    return build_object(
        "EndpointSlice",
        "web-1",
        "discovery.k8s.io/v1",
        labels={"kubernetes.io/service-name": "web"},
        addressType="IPv4",
        ports=[{"port": 8080}],
        endpoints=[
            {"addresses": [address], "targetRef": {"kind": "Pod", "name": pod, "namespace": namespace}}
            for address, pod, namespace in endpoints
        ],
    )


def test_an_address_in_a_slice_is_not_judged_by_the_account_of_a_pod_that_does_not_have_it(cluster):
    """Somebody who may write EndpointSlices names another's pod beside an address of their own."""
    thief = build_pod("thief", "10.6.6.6", "thief")
    both = build_slice(("10.6.6.6", "web-1", "shop"), (SERVER, "web-1", "shop"))
    found = cluster(*BASE, OPEN, thief, both)
    assert found.ask(CLIENT, "web") == (200, frozenset({(SERVER, 8080)}))
    assert any("10.6.6.6 is not an address of Pod web-1@shop" in text for text in found.build_node("web").notices)
    alone = cluster(*BASE, OPEN, thief, build_slice(("10.6.6.6", "web-1", "shop")))
    assert alone.ask(CLIENT, "web") == (403, None)
    unknown = cluster(*BASE, OPEN, build_slice(("10.6.6.6", "not-there", "shop")))
    assert unknown.ask(CLIENT, "web") == (403, None)


# --- ports of several traffic types ---


def build_mixed():
    """A service with a port of each traffic type; those of TCP and UDP have the same number."""
    ports = [
        {"name": "web", "port": 80, "targetPort": 8080},
        {"name": "db", "port": 53, "targetPort": 5300},
        {"name": "dns", "port": 53, "targetPort": 5301, "protocol": "UDP"},
    ]
    found = build_object("Service", "web", spec={"selector": {"app": "web"}, "ports": ports})
    found["metadata"]["annotations"] = {
        "maesh.containo.us/db.traffic-type": "tcp",
        "maesh.containo.us/dns.traffic-type": "udp",
    }
    return found


@pytest.mark.parametrize(
    ("rules", "opened"),
    [
        ([], {"http"}),
        ([("HTTPRouteGroup", "api")], {"http"}),
        ([("TCPRoute", "all")], {"http", "tcp"}),
        ([("UDPRoute", "all")], {"udp"}),
        ([("UDPRoute", "all"), ("TCPRoute", "all")], {"http", "tcp", "udp"}),
    ],
)
def test_each_port_is_judged_by_its_own_traffic_type(cluster, rules, opened):
    routes = [API, build_route("TCPRoute", "all"), build_route("UDPRoute", "all")]
    target = build_target("t", "server", ["caller"], rules)
    sections = cluster(*BASE[:-1], build_mixed(), *routes, target).build_sections("web")
    keys = {"http": "shop/web:80", "tcp": "shop/web:53", "udp": "shop/web:53"}
    for name, section in sections.items():
        leaves = section.middlewares["shop/web/acl"].settings["destinations"][keys[name]]
        assert bool(leaves[0].get("grants")) is (name in opened), name
        assert {router.middlewares for router in section.routers.values()} == {("shop/web/acl",)}
