"""`maesh explain` and the mesh are of one mind, and it says whose rule decides."""

import json
import random

import msgspec
import pytest
from maesh_acl.controller import AclBuilder

from maesh_core.controller.explaining.explanation import ExplainedRequest, Explainer
from maesh_core.controller.explaining.pod_lookup import PodLookup
from maesh_core.controller.topology.rendering import render_topology
from maesh_core.model.messages import Update

from .conftest import Cluster, build_pod, build_route, build_service, build_split, build_target
from .test_acl_oracle import SERVICES, draw_mesh, draw_request
from .test_acl_rules import API, BASE, CLIENT, LEAVES, ONE, OPEN, STRANGER, TWO, build_stream


def build_explainer(cluster, services, problems=None):
    nodes = [cluster.build_node(name) for name in services]
    sections = {}
    for name, node in zip(services, nodes, strict=True):
        section = cluster.build_section(name)
        known = sections.setdefault(node.traffic_type, {"routers": {}, "services": {}, "middlewares": {}})
        for noun, found in known.items():
            found.update(getattr(section, noun))
    sections = {kind: type(section)(**found) for kind, found in sections.items()}
    topology = json.loads(msgspec.json.encode(render_topology(nodes)))
    update = Update(revision="e.1", full=True, sections=sections)
    return Explainer(topology, update, {"acl": AclBuilder()}, pods=PodLookup(cluster.snapshot), problems=problems)


def explain(objects, *services, problems=None, **asked):
    return build_explainer(Cluster(*objects), services, problems).explain(ExplainedRequest(**asked))


def list_denials(found):
    return [step.removeprefix("denied: ") for step in found.steps if step.startswith("denied: ")]


@pytest.mark.slow
def test_it_is_of_one_mind_with_the_proxy():
    dice = random.Random(7)
    agreed = 0
    for _ in range(40):
        cluster = Cluster(*draw_mesh(dice))
        explainer = build_explainer(cluster, SERVICES)
        for _ in range(20):
            client, service, method, path, headers = draw_request(dice)
            status, servers = cluster.ask(client, service, method=method, path=path, headers=headers)
            found = explainer.explain(
                ExplainedRequest(
                    client=client, service=f"{service}.shop", method=method, path=path, headers=tuple(headers.items())
                )
            )
            assert (found.status in (200, 503)) is (status == 200), (client, service, method, path, found)
            if servers is not None:
                named = {each for destination in found.destinations for each in destination.servers}
                assert named <= {f"{address}:{port}" for address, port in servers}
            agreed += status == 200
    assert agreed > 100


def test_it_names_split_target_and_shares():
    split = build_split("canary", "web", {"v1": 9, "v2": 1})
    found = explain([*BASE, *LEAVES, split, ONE, TWO], "web", client="shop/client", service="web.shop")
    assert found.is_admitted
    assert "split canary: it applies to all requests" in found.steps
    assert "acl: v1: TrafficTarget one@shop allows it" in found.steps
    assert [(each.service, each.share) for each in found.destinations] == [("v1", 0.9), ("v2", 0.1)]


@pytest.mark.parametrize(
    ("objects", "asked", "reason"),
    [
        ([], {}, "no TrafficTarget allows any client; create one with caller@shop among its sources"),
        (
            [build_target("t", "server", ["other"])],
            {},
            "no TrafficTarget names caller@shop among its sources; existing targets: t@shop",
        ),
        (
            [build_target("t", "server", ["caller"], [("HTTPRouteGroup", "api")]), API],
            {"path": "/admin"},
            "TrafficTarget t@shop allows the client, but not this request: no match applies to it",
        ),
        (
            [*LEAVES, build_split("s", "web", {"v1": 1, "v2": 1}), ONE],
            {},
            "v2: no TrafficTarget allows any client; create one with caller@shop among its sources",
        ),
        (
            [*LEAVES, build_split("s", "web", {"v1": 0})],
            {},
            "it has no service with weight, so no client is allowed",
        ),
    ],
)
def test_it_says_what_denies_and_what_would_have_to_change(objects, asked, reason):
    for client in ("shop/client", CLIENT, f"::ffff:{CLIENT}"):
        found = explain([*BASE, *objects], "web", client=client, service="web.shop", **asked)
        assert (found.is_admitted, found.status) == (False, 403)
        assert reason in list_denials(found)


TCP_TARGET = build_target("t", "server", ["caller"], [("TCPRoute", "tcp")])
NAMELESS = build_target("nameless", "server", ["caller"])
del NAMELESS["spec"]["sources"][0]["namespace"]


@pytest.mark.parametrize(
    ("objects", "client", "reasons"),
    [
        (
            [],
            "203.0.113.9",
            [
                "the mesh knows no pod with address 203.0.113.9;"
                " TrafficTargets identify clients by the service account of their pod"
            ],
        ),
        (
            [build_pod("twin", CLIENT, "other"), OPEN],
            "shop/client",
            [
                f"pods of caller@shop and other@shop share address {CLIENT}, "
                "so it identifies none of them unless one target names all",
                "TrafficTarget open@shop names caller@shop among its sources, but grants nothing here: "
                "the client's address does not identify that account",
            ],
        ),
        (
            [NAMELESS],
            "shop/client",
            ["TrafficTarget nameless@shop names caller among its sources without a namespace, which matches no client"],
        ),
        (
            [build_target("t", "server", ["caller"], [("HTTPRouteGroup", "gone")])],
            "shop/client",
            [
                "TrafficTarget t@shop names caller@shop among its sources, but grants nothing here: "
                "there is no HTTPRouteGroup gone in namespace shop"
            ],
        ),
        (
            [build_target("t", "server", ["caller"], [("UDPRoute", "udp")]), build_route("UDPRoute", "udp")],
            "shop/client",
            [
                "TrafficTarget t@shop names caller@shop among its sources, but grants nothing here: "
                "its rules allow only UDP"
            ],
        ),
        (
            [TCP_TARGET, build_route("TCPRoute", "tcp", [9])],
            "shop/client",
            [
                "TrafficTarget t@shop names caller@shop among its sources, but grants nothing here: "
                "its rules or its destination do not apply to this port"
            ],
        ),
        ([build_pod("late", "", "caller"), OPEN], "shop/late", ["the client has no address to identify it"]),
        (
            [build_pod("job", "10.0.0.9", "caller", phase="Failed"), OPEN],
            "shop/job",
            ["the client has no address to identify it"],
        ),
    ],
)
def test_no_target_is_advised_that_is_there_or_that_would_not_help(objects, client, reasons):
    found = explain([*BASE, *objects], "web", client=client, service="web.shop")
    assert (found.is_admitted, list_denials(found)) == (False, reasons)


def test_a_pod_on_its_node_s_network_identifies_no_client():
    pod = build_pod("agent", "10.0.0.7", "caller")
    pod["spec"]["hostNetwork"] = True
    found = explain([*BASE, pod, OPEN], "web", client="shop/agent", service="web.shop")
    assert list_denials(found)[0] == "shop/agent has its node's address, 10.0.0.7, which identifies no client"


def test_a_service_without_pods_is_reached_by_no_target():
    found = explain([*BASE, build_service("empty"), OPEN], "empty", client="shop/client", service="empty.shop")
    assert list_denials(found) == ["service empty has no ready pod, and a TrafficTarget grants access only to pods"]


def test_where_a_target_could_not_be_read_none_is_advised():
    found = explain(
        BASE,
        "web",
        client="shop/client",
        service="web.shop",
        problems={"a.yaml line 3": "TrafficTarget: unknown field"},
    )
    assert list_denials(found) == ["no readable TrafficTarget allows any client, and some could not be read"]


def test_a_path_that_could_be_taken_for_another_is_said_to_be_one():
    target = build_target("t", "server", ["caller"], [("HTTPRouteGroup", "api")])
    found = explain([*BASE, target, API], "web", client=CLIENT, service="web.shop", path="/api/../x")
    assert list_denials(found) == [
        "TrafficTarget t@shop allows the client, but not this request: the path is ambiguous"
    ]


def test_each_address_of_a_pod_is_let_in_as_the_proxy_does():
    dual = build_pod("dual", "10.0.0.6", "caller")
    dual["status"]["podIPs"] = [{"ip": "10.0.0.6"}, {"ip": "FD00:0::6"}, {"ip": "::ffff:10.0.0.8"}]
    cluster = Cluster(*BASE, dual, OPEN)
    explainer = build_explainer(cluster, ["web"])
    for address in ("10.0.0.6", "fd00::6", "10.0.0.8"):
        assert cluster.ask(address, "web") == (200, None)
        found = explainer.explain(ExplainedRequest(client=address, service="web.shop"))
        assert found.is_admitted
        assert found.steps[0] == f"client pod shop/dual at {address}, service account caller@shop"


def test_the_errors_of_targets_and_splits_are_shown_beside_the_answer():
    bad = build_target("bad", "server", ["other"], [("HTTPRouteGroup", "gone")])
    split = build_split("canary", "web", {"gone": 1})
    found = explain([*BASE, OPEN, bad, split], "web", client=CLIENT, service="web.shop")
    shown = {(each.kind, each.name): each.errors for each in found.objects}
    assert shown["TrafficTarget", "bad"] == ("there is no HTTPRouteGroup gone in namespace shop",)
    assert shown["TrafficSplit", "canary"] == ("backend gone: the service does not exist; it is ignored",)


def test_streams_are_explained_too():
    found = explain(build_stream("tcp"), "web", client=STRANGER, service="web.shop")
    assert (found.is_admitted, found.status, found.traffic_type) == (False, 0, "tcp")


def test_the_topology_shows_who_is_source_and_who_destination():
    cluster = Cluster(*BASE, OPEN, build_service("other"))
    topology = render_topology([cluster.build_node("web"), cluster.build_node("other")])
    assert topology["pods"]["client@shop"]["sourceOf"] == ["web@shop:open@shop"]
    assert topology["pods"]["web-1@shop"]["destinationOf"] == ["web@shop:open@shop"]
    assert topology["services"]["web@shop"]["trafficTargets"] == ["web@shop:open@shop"]
