"""Grants: whether a route may refer to a backend in another namespace."""

import pytest

from .conftest import write_parent, write_route, write_rule, write_service

WEB = write_service("web", ports=((80, "http"), (7070, "grpc")))
V1 = write_service("v1", "10.0.1.1")
OTHER = write_service("v1", "10.0.3.1", namespace="other")
ROUTE = write_route(rules=[write_rule({"name": "v1", "port": 80, "namespace": "other"})])


def write_backend(name, **fields):
    return {"name": name, "port": 80, **fields}


def write_grant(namespace="other", *, from_=None, to=None, version="v1"):
    return {
        "apiVersion": f"gateway.networking.k8s.io/{version}",
        "kind": "ReferenceGrant",
        "metadata": {"name": "grant", "namespace": namespace},
        "spec": {
            "from": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "shop", **(from_ or {})}],
            "to": [{"group": "", "kind": "Service", **(to or {})}],
        },
    }


def test_in_a_mesh_a_backend_in_another_namespace_needs_no_grant(cluster):
    assert cluster(WEB, OTHER, ROUTE).find_attachment().refs == ()


def test_with_strict_grants_it_needs_one(cluster):
    found = cluster(WEB, OTHER, ROUTE, grants="strict")
    assert found.find_rule().backends[0].answer.status == 500
    assert [(each.reason, each.text) for each in found.find_attachment().refs] == [
        ("RefNotPermitted", "rules[0]: backend other/v1: no ReferenceGrant in namespace other permits it")
    ]


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
@pytest.mark.parametrize("to", [{}, {"name": "v1"}])
def test_a_grant_permits_a_reference(cluster, version, to):
    found = cluster(WEB, OTHER, ROUTE, write_grant(to=to, version=version), grants="strict")
    assert found.find_attachment().refs == ()


@pytest.mark.parametrize(
    "grant",
    [
        write_grant(from_={"kind": "GRPCRoute"}),
        write_grant(from_={"namespace": "client"}),
        write_grant(from_={"group": ""}),
        write_grant(to={"name": "v2"}),
        write_grant(to={"kind": "Secret"}),
        write_grant("shop"),
        write_grant(to={"nmae": "v1"}),
    ],
)
def test_another_grant_permits_nothing(cluster, grant):
    found = cluster(WEB, OTHER, ROUTE, grant, grants="strict")
    assert [each.reason for each in found.find_attachment().refs] == ["RefNotPermitted"]


def test_an_existing_service_is_not_told_from_a_missing_one_without_a_grant(cluster):
    assert [each.reason for each in cluster(WEB, ROUTE, grants="strict").find_attachment().refs] == ["RefNotPermitted"]


def test_a_consumer_route_needs_no_grant_for_its_parent(cluster):
    rule = write_rule(write_backend("web", namespace="shop"), write_backend("v1", namespace="shop"))
    found = cluster(WEB, V1, write_route(rules=[rule], namespace="client"), grants="strict")
    rule = found.find_rule(consumer="client")
    assert [each.answer and each.answer.status for each in rule.backends] == [None, 500]


def test_a_second_parent_is_no_grant_for_the_clients_of_the_first(cluster):
    both = [write_parent(), write_parent("v1", namespace="other")]
    route = write_route(rules=[write_rule(write_backend("v1", namespace="other"))], parents=both)
    found = cluster(WEB, OTHER, route, grants="strict")
    assert found.find_rule().backends[0].answer.status == 500
