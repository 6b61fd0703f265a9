"""Weights that cannot be met."""

from maesh_core.controller.checking.shares import CYCLE_LIMIT, find_weight_problems
from maesh_core.model.keys import ObjectKey
from maesh_core.model.topology import BackendNode, PortNode, ServerNode


def build(name, weight, *, is_served=True):
    servers = (ServerNode(address="10.0.0.1", port=80),) if is_served else ()
    port = PortNode(number=80, servers=servers, unserved="" if is_served else "its selector app=x matches no pod")
    return BackendNode(service=ObjectKey("shop", name), weight=weight, port=port)


def test_weights_of_served_backends_are_fine():
    assert list(find_weight_problems([build("a", 90), build("b", 10), build("c", 0, is_served=False)])) == []


def test_a_share_without_servers_cannot_be_met():
    (found,) = find_weight_problems([build("a", 9), build("b", 1, is_served=False)])
    assert found == (
        "MSH304",
        "backend b@shop has weight 1, but no ready server: its selector app=x matches no pod",
    )


def test_nothing_can_be_served_without_weights():
    assert [code for code, _ in find_weight_problems([build("a", 0)])] == ["MSH305"]
    assert list(find_weight_problems([build("a", 0)], has_answer=True)) == []


def test_a_tiny_share_is_met_by_few():
    assert list(find_weight_problems([build("a", CYCLE_LIMIT - 1), build("b", 1)])) == []
    assert list(find_weight_problems([build("a", 4 * CYCLE_LIMIT), build("b", 4)])) == [
        ("MSH306", "backend b@shop gets 1 of 10001 requests, and each worker of each proxy counts on its own")
    ]
