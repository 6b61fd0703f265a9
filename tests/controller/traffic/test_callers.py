"""Addresses of clients and the workloads that have them."""

import pytest

from maesh_core.controller.traffic.callers import Caller, find_caller, name_workload

from .measured import build_pod, build_snapshot


@pytest.mark.parametrize(
    ("owner", "labels", "workload"),
    [
        (("ReplicaSet", "web-6d5f8c7b9"), {"pod-template-hash": "6d5f8c7b9"}, "Deployment/web@shop"),
        (("ReplicaSet", "web-6d5f8c7b9"), {}, "Deployment/web@shop"),
        (("ReplicaSet", "web-api-7f9b"), {"pod-template-hash": "7f9b"}, "Deployment/web-api@shop"),
        (("ReplicaSet", "web"), {}, "ReplicaSet/web@shop"),
        (("ReplicaSet", "web-frontend"), {}, "ReplicaSet/web-frontend@shop"),
        (("ReplicaSet", "web-6d5f8c7b9"), {"pod-template-hash": "other"}, "ReplicaSet/web-6d5f8c7b9@shop"),
        (("StatefulSet", "db"), {}, "StatefulSet/db@shop"),
        (("DaemonSet", "agent"), {}, "DaemonSet/agent@shop"),
        (("Job", "backup-28391"), {}, "Job/backup-28391@shop"),
        (("Node", "node-1"), {}, "Pod/p@shop"),
        (None, {}, "Pod/p@shop"),
    ],
)
def test_a_pod_belongs_to_the_workload_of_its_owner(
    owner: tuple[str, str] | None, labels: dict[str, str], workload: str
) -> None:
    assert name_workload(build_pod("p", "10.0.0.1", owner=owner, labels=labels)) == workload


def test_an_address_names_the_workload_the_account_and_the_pod() -> None:
    snapshot = build_snapshot(
        build_pod("db-0", "10.0.0.1", owner=("StatefulSet", "db"), service_account_name="db"),
        build_pod("web", "10.0.0.2"),
    )
    assert find_caller(snapshot, "10.0.0.1") == Caller("StatefulSet/db@shop", "db@shop", ("shop/db-0",))
    assert find_caller(snapshot, "10.0.0.2") == Caller("Pod/web@shop", "default@shop", ("shop/web",))


def test_an_address_of_no_pod_is_the_caller() -> None:
    assert find_caller(build_snapshot(), "10.0.0.1") == Caller("10.0.0.1")


def test_a_pod_on_the_hosts_network_is_not_named_because_its_node_has_the_same_address() -> None:
    snapshot = build_snapshot(build_pod("agent", "10.0.0.1", host_network=True))
    assert find_caller(snapshot, "10.0.0.1") == Caller("10.0.0.1")


def test_an_address_of_several_workloads_or_accounts_is_ambiguous() -> None:
    one = build_pod("a", "10.0.0.1", owner=("Job", "j"))
    for other in (
        build_pod("b", "10.0.0.1"),
        build_pod("b", "10.0.0.1", owner=("Job", "j"), service_account_name="x"),
        build_pod("b", "10.0.0.1", owner=("Job", "j"), namespace="other"),
        build_pod("b", "10.0.0.1", owner=("Job", "j"), host_network=True),
    ):
        assert find_caller(build_snapshot(one, other), "10.0.0.1") == Caller("10.0.0.1")
    same = build_pod("b", "10.0.0.1", owner=("Job", "j"))
    assert find_caller(build_snapshot(one, same), "10.0.0.1").pods == ("shop/a", "shop/b")
