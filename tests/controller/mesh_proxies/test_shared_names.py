"""The condition that reports proxies which share a name and an address."""

from collections.abc import Sequence
from typing import Any

import msgspec

from maesh_core.controller.mesh_proxies.shared_names import SharedNames, is_shared
from maesh_core.model.messages import NodeReport


def build_report(name: str, *ports: int, ip: str = "10.0.0.1") -> NodeReport:
    shared: Any = ports or msgspec.UNSET
    return NodeReport(name=name, ip=ip, ready=True, revision="e.1", last_seen="", admin_port=8080, shared_ports=shared)


class Mesh:
    def __init__(self, *reports: NodeReport) -> None:
        self.reports = reports

    async def list_proxies(self) -> tuple[Sequence[NodeReport], bool]:
        return self.reports, True


async def test_names_that_proxies_share_are_problems_with_their_addresses_once_each() -> None:
    shared = build_report("b", 8080, 8081, ip="fd00::1")
    checker = SharedNames(Mesh(shared, build_report("c"), build_report("a", 1, 2, 3), shared))
    (condition,) = await checker.check_conditions()
    assert (condition.id, condition.problems) == (
        "proxy-names",
        (
            "a: several proxies have this name: 10.0.0.1:1, 10.0.0.1:2, 10.0.0.1:3",
            "b: several proxies have this name: [fd00::1]:8080, [fd00::1]:8081",
        ),
    )
    assert "--node" in condition.hint


async def test_without_shared_names_there_is_no_condition() -> None:
    assert await SharedNames(Mesh(build_report("a"), build_report("b"))).check_conditions() == []


def test_one_port_is_shared_by_none() -> None:
    assert not is_shared(build_report("a", 8080))
    assert not is_shared(build_report("a"))


def test_a_report_of_a_controller_without_the_field_is_read() -> None:
    encoded = msgspec.json.encode(build_report("a"))
    assert b"sharedPorts" not in encoded
    assert not is_shared(msgspec.json.decode(encoded, type=NodeReport))
    assert is_shared(msgspec.json.decode(msgspec.json.encode(build_report("a", 1, 2)), type=NodeReport))
