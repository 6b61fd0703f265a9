"""What the node of a server allows when the proxy of another node asks for a connection.

It agrees with what the other proxy allows for requests and connections.
"""

import json

import pytest
from maesh_acl import AccessSettings

from maesh_core.plugin import Delivery

from .conftest import build_group, build_pod, build_route, build_service, build_split, build_target

WEB = build_service("web")
SERVERS = (build_pod("web-1", "10.0.1.1", "server", app="web"), build_pod("web-2", "10.0.1.2", "old", app="web"))
CLIENTS = (build_pod("free", "10.0.2.1", "free"), build_pod("bound", "10.0.2.2", "bound"))
FREE, BOUND, OTHER = "10.0.2.1", "10.0.2.2", "10.0.2.9"
GROUP = build_group("api", {"name": "read", "pathRegex": "/api", "methods": ["GET"]})


def judge(mesh, client, *, address="10.0.1.1", service="shop/web:80", protocol="http", owner="web", port=8080):
    return mesh.build_acl(owner).judge_delivery(Delivery(address, port, service, client, protocol))


@pytest.fixture
def web(cluster):
    """One server that `free` may send anything to, and `bound` some requests; and one with another account."""
    return cluster(
        WEB,
        *SERVERS,
        *CLIENTS,
        GROUP,
        build_target("t1", "server", ["free"]),
        build_target("t2", "server", ["bound"], [("HTTPRouteGroup", "api")]),
        build_target("t3", "old", ["bound"], [("HTTPRouteGroup", "api")]),
    )


def test_a_client_with_a_grant_for_all_requests_is_allowed_to_the_servers_of_the_grant(web):
    assert judge(web, FREE) is True
    assert judge(web, FREE, address="10.0.1.2") is False


def test_a_client_whose_grants_have_conditions_depends_on_the_request(web):
    assert judge(web, BOUND) is None
    assert judge(web, BOUND, address="10.0.1.2") is None
    assert judge(web, BOUND, address="10.0.1.3") is False


@pytest.mark.parametrize("client", [OTHER, "", "10.0.1.1"])
def test_any_other_client_is_denied_and_counted(web, client):
    assert judge(web, client) is False
    family, _ = web.factory.collect_metrics()
    assert family.samples == [(("shop/web:80", "client"), 1.0)]


def test_in_audit_mode_every_client_may_reach_every_server_and_nothing_is_recorded(cluster):
    mesh = cluster(WEB, *SERVERS, *CLIENTS, GROUP, settings=AccessSettings(mode="audit"))
    assert judge(mesh, OTHER) is True
    assert judge(mesh, BOUND, address="10.0.1.2") is True
    assert json.loads(mesh.factory.build_report())["denials"] == []


def test_a_target_in_audit_mode_allows_its_sources_without_a_condition(cluster):
    target = build_target("t", "server", ["bound"], [("HTTPRouteGroup", "api")])
    target["metadata"]["annotations"] = {"maesh.containo.us/acl-mode": "audit"}
    mesh = cluster(WEB, *SERVERS, *CLIENTS, GROUP, target)
    assert judge(mesh, BOUND) is True
    assert judge(mesh, BOUND, address="10.0.1.2") is False
    assert judge(mesh, FREE) is False


@pytest.mark.parametrize("service", ["shop/web:81", "shop/other:80", "shop", ""])
def test_a_service_without_grants_denies(web, service):
    assert judge(web, FREE, service=service) is False


def test_a_grant_for_all_servers_allows_each(cluster):
    mesh = cluster(WEB, SERVERS[0], *CLIENTS, build_target("t", "server", ["free"]))
    assert judge(mesh, FREE) is True


def test_conditions_of_http_do_not_apply_to_tcp(cluster):
    db = build_service("db", kind="tcp")
    objects = (db, build_pod("db-1", "10.0.1.5", "server", app="db"), *CLIENTS, build_route("TCPRoute", "all"))
    mesh = cluster(*objects, build_target("t", "server", ["free"], [("TCPRoute", "all")]))
    named = {"address": "10.0.1.5", "service": "shop/db:80", "owner": "db", "protocol": "tcp"}
    assert judge(mesh, FREE, **named) is True
    assert judge(mesh, BOUND, **named) is False


def test_a_part_of_a_split_needs_the_grants_of_all_its_leaves(cluster):
    leaves = [
        each
        for number, name in enumerate(("v1", "v2"), 1)
        for each in (build_service(name), build_pod(f"{name}-1", f"10.0.3.{number}", name, app=name))
    ]
    objects = (build_service("root"), *leaves, *CLIENTS, build_split("s", "root", {"v1": 1, "v2": 1}))
    both = [build_target(f"t{name}", name, ["free"]) for name in ("v1", "v2")]
    mesh = cluster(*objects, *both, build_target("t", "v1", ["bound"]))
    section = mesh.build_section("root")
    (branch,) = [key for key, service in section.services.items() if service.parts]
    for number, part in enumerate(section.services[branch].parts, 1):
        named = {"address": f"10.0.3.{number}", "service": part.service, "owner": "root"}
        assert judge(mesh, FREE, **named) is True
        assert judge(mesh, BOUND, **named) is False
