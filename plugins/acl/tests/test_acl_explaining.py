"""`maesh explain` and the mesh are of one mind, and it says whose rule decides."""

import json
import random

import msgspec
import pytest
from maesh_acl.controller import AclBuilder

from maesh_core.controller.explanation import Asked, Explainer
from maesh_core.model.messages import Update
from maesh_core.topology.rendering import render_topology

from .conftest import Cluster, build_service, build_split, build_target
from .test_acl_oracle import SERVICES, draw_mesh, draw_request
from .test_acl_rules import API, BASE, CLIENT, LEAVES, ONE, OPEN, STRANGER, TWO, build_stream


def build_explainer(cluster, services):
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
    return Explainer(topology, update, {"acl": AclBuilder()})


def explain(objects, *services, **asked):
    return build_explainer(Cluster(*objects), services).explain(Asked(**asked))


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
                Asked(
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
    assert "split canary: it is about all requests" in found.steps
    assert "acl: v1: TrafficTarget one@shop lets it in" in found.steps
    assert [(each.service, each.share) for each in found.destinations] == [("v1", 0.9), ("v2", 0.1)]


@pytest.mark.parametrize(
    ("objects", "asked", "reason"),
    [
        ([], {}, "no TrafficTarget lets anybody in; one with caller@shop among its sources would have to be written"),
        (
            [build_target("t", "server", ["other"])],
            {},
            "no TrafficTarget names caller@shop among its sources; those there are: t@shop",
        ),
        (
            [build_target("t", "server", ["caller"], [("HTTPRouteGroup", "api")]), API],
            {"path": "/admin"},
            "TrafficTarget t@shop lets the client in, but not with this request: no match is about it",
        ),
        (
            [*LEAVES, build_split("s", "web", {"v1": 1, "v2": 1}), ONE],
            {},
            "v2: no TrafficTarget lets anybody in; one with caller@shop among its sources would have to be written",
        ),
        (
            [*LEAVES, build_split("s", "web", {"v1": 0})],
            {},
            "no service with weight stands behind it, so nobody is let in",
        ),
    ],
)
def test_it_says_what_denies_and_what_would_have_to_change(objects, asked, reason):
    client = (
        {"client": "shop/client"} if any(each["kind"] == "TrafficTarget" for each in objects) else {"client": CLIENT}
    )
    wanted = reason if client["client"] != CLIENT else reason.replace("caller@shop", CLIENT)
    found = explain([*BASE, *objects], "web", service="web.shop", **client, **asked)
    assert (found.is_admitted, found.status) == (False, 403)
    known = {wanted, reason, reason.replace("caller@shop", "a client that the mesh does not know")}
    assert known & {step.removeprefix("denied: ") for step in found.steps}


def test_streams_are_explained_too():
    found = explain(build_stream("tcp"), "web", client=STRANGER, service="web.shop")
    assert (found.is_admitted, found.status, found.traffic_type) == (False, 0, "tcp")


def test_the_topology_shows_who_is_source_and_who_destination():
    cluster = Cluster(*BASE, OPEN, build_service("other"))
    topology = render_topology([cluster.build_node("web"), cluster.build_node("other")])
    assert topology["pods"]["client@shop"]["sourceOf"] == ["web@shop:open@shop"]
    assert topology["pods"]["web-1@shop"]["destinationOf"] == ["web@shop:open@shop"]
    assert topology["services"]["web@shop"]["trafficTargets"] == ["web@shop:open@shop"]
