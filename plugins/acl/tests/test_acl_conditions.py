"""Audit mode, by setting or by annotation, is a condition of the mesh that its commands and pages show."""

from typing import Any

from maesh_acl import AccessSettings, AclSettings, Grant, LeafGrants
from maesh_acl.granting.conditions import NAMES_SHOWN, AuditCondition

from maesh_core.plugin import ObjectKey, ServiceNode


class Controller:
    def __init__(self, *nodes: ServiceNode) -> None:
        self.nodes = nodes

    def list_services(self) -> tuple[ServiceNode, ...]:
        return self.nodes


def build_node(name: str, *, is_audited: bool = False, grants: tuple[Grant, ...] = ()) -> ServiceNode:
    leaf = LeafGrants(service=name, is_audited=is_audited, grants=grants)
    settings = AclSettings(destinations={"80": (leaf, LeafGrants(service="leaf", is_audited=True))})
    return ServiceNode(key=ObjectKey("shop", name), traffic_type="http", additions={"acl": settings})


async def check(*nodes: ServiceNode, mode: Any = "enforce") -> list[str]:
    (condition,) = await AuditCondition(Controller(*nodes), AccessSettings(mode=mode)).check_conditions()
    assert condition.id == "access-enforced"
    return list(condition.problems)


async def test_nothing_is_said_where_access_control_denies() -> None:
    assert await check(build_node("a"), build_node("b")) == []


async def test_in_the_mode_of_the_mesh_the_enforced_services_are_counted() -> None:
    text = "access control is in audit mode (acl.mode=audit), so it denies nothing"
    assert await check(build_node("a", is_audited=True), mode="audit") == [text]
    assert await check(build_node("a", is_audited=True), build_node("b"), mode="audit") == [
        f"{text}, except for 1 service"
    ]


async def test_services_in_audit_mode_by_annotation_are_named() -> None:
    assert await check(build_node("a", is_audited=True), build_node("b")) == [
        "access to 1 service is in audit mode by annotation, so nothing is denied there: a@shop"
    ]
    many = [build_node(f"s{number:02}", is_audited=True) for number in range(NAMES_SHOWN + 2)]
    (text,) = await check(*many)
    assert text.startswith("access to 12 services is in audit mode")
    assert text.endswith(" s09@shop and 2 more")


async def test_targets_in_audit_mode_are_named_once() -> None:
    grants = (Grant(target="t@shop", sources=("10.0.0.1",), is_audited=True), Grant(target="u@shop", sources=()))
    assert await check(build_node("a", grants=grants), build_node("b", grants=grants)) == [
        "1 TrafficTarget in audit mode lets its sources send any HTTP request: t@shop"
    ]


async def test_udp_ports_in_audit_mode_count() -> None:
    settings = AclSettings(datagrams={"53": (LeafGrants(service="dns", is_audited=True),)})
    node = ServiceNode(key=ObjectKey("shop", "dns"), traffic_type="udp", additions={"acl": settings})
    (text,) = await check(node)
    assert text.endswith("dns@shop")


async def test_a_closed_service_without_settings_is_not_in_audit_mode() -> None:
    assert await check(ServiceNode(key=ObjectKey("shop", "a"), traffic_type=None)) == []
