"""Hosts of a service. Routers and services that come of it: tests/data/mesh."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from maesh_core.controller.configuration.http import HttpTrafficType, build_hosts
from maesh_core.errors import ConfigurationError
from maesh_core.model.configuration import HttpRouter, Server
from maesh_core.model.keys import ObjectKey
from maesh_core.model.topology import PortNode, ServerNode, ServiceNode
from maesh_core.plugin_system.protocols import PortRange

TYPE = HttpTrafficType(PortRange(first=5000, limit=10, is_exclusive=False))
PORT = PortNode(number=80, servers=(ServerNode(address="fd00::1", port=8080),))
NODE = ServiceNode(
    key=ObjectKey("shop", "cart"), traffic_type="http", ports=(PORT,), cluster_ips=("fd00::10", "10.96.0.1")
)


def test_hosts_are_both_names_and_every_cluster_address_as_a_host_header_has_them() -> None:
    assert build_hosts(NODE) == ("cart.shop.maesh", "cart.shop.traefik.mesh", "[fd00::10]", "10.96.0.1")


def test_hosts_are_in_lower_case() -> None:
    node = ServiceNode(key=ObjectKey("Shop", "CART"), traffic_type="http")
    assert build_hosts(node) == ("cart.shop.maesh", "cart.shop.traefik.mesh")


def test_a_port_becomes_a_router_and_a_service_of_one_key() -> None:
    section = TYPE.build_section(NODE, {}, entrypoints=[(PORT, 5003)], middlewares=("shop/cart/a",))
    assert section.routers == {
        "shop/cart:80": HttpRouter(
            entrypoint=5003, hosts=build_hosts(NODE), service="shop/cart:80", middlewares=("shop/cart/a",)
        )
    }
    assert section.services["shop/cart:80"].servers == (Server(address="fd00::1", port=8080),)
    assert section.services["shop/cart:80"].scheme == "http"


def test_each_port_has_the_scheme_of_its_app_protocol_and_the_annotation_wins() -> None:
    def build(annotations: Mapping[str, str]) -> list[tuple[str, str]]:
        section = TYPE.build_section(
            NODE, annotations, entrypoints=list(zip(ports, range(5000, 5003), strict=True)), middlewares=()
        )
        services = [section.services[f"shop/cart:{port.number}"] for port in ports]
        return [(service.scheme, service.servers[0].tls_name) for service in services]

    ports = [
        msgspec.structs.replace(PORT, number=number, app_protocol=name)
        for number, name in ((80, ""), (443, "https"), (9090, "grpc"))
    ]
    assert build({}) == [("http", ""), ("https", "cart.shop.svc"), ("h2c", "")]
    assert build({"scheme": "http"}) == [("http", "")] * 3
    assert build({"scheme": "https"}) == [("https", "cart.shop.svc")] * 3


def test_a_closed_service_keeps_its_hosts_and_has_no_servers() -> None:
    section = TYPE.build_closed_section(NODE, entrypoints=[(PORT, 5003)], reason="because")
    assert section.routers == {"shop/cart:80": HttpRouter(entrypoint=5003, hosts=build_hosts(NODE), reason="because")}
    assert section.services == {}


class HashBuilder:
    name = "hash"
    annotations = ("hash-header",)

    def build_settings(self, annotations: Mapping[str, str], service: ServiceNode) -> Mapping[str, Any]:
        return {"given": dict(annotations), "service": service.key.name}


def test_the_plugin_that_gives_a_balancer_decides_its_settings() -> None:
    type_ = HttpTrafficType(TYPE.port_range, {"hash": HashBuilder()})
    annotations = {"load-balancer": "hash", "hash-header": "X-User", "scheme": "http", "other": "x"}
    service = type_.build_section(NODE, annotations, entrypoints=[(PORT, 5003)], middlewares=()).services[
        "shop/cart:80"
    ]
    assert service.load_balancer == "hash"
    assert service.load_balancer_settings == {"given": {"hash-header": "X-User"}, "service": "cart"}
    plain = type_.build_section(NODE, {"hash-header": "X-User"}, entrypoints=[(PORT, 5003)], middlewares=()).services[
        "shop/cart:80"
    ]
    assert (plain.load_balancer, plain.load_balancer_settings) == ("round-robin", {})


def test_a_balancer_that_nobody_gives_is_refused_with_those_there_are() -> None:
    type_ = HttpTrafficType(TYPE.port_range, {"hash": HashBuilder()})
    with pytest.raises(ConfigurationError, match="not one of round-robin, least-request, hash"):
        type_.build_section(NODE, {"load-balancer": "nearest"}, entrypoints=[(PORT, 5003)], middlewares=())


def test_settings_of_a_balancer_that_cannot_be_sent_are_refused() -> None:
    class Unsendable(HashBuilder):
        def build_settings(self, annotations: Mapping[str, str], service: ServiceNode) -> Mapping[str, Any]:
            return {"given": object()}

    type_ = HttpTrafficType(TYPE.port_range, {"hash": Unsendable()})
    with pytest.raises(ConfigurationError, match="load balancer hash: its settings cannot be sent to proxies"):
        type_.build_section(NODE, {"load-balancer": "hash"}, entrypoints=[(PORT, 5003)], middlewares=())


@pytest.mark.parametrize(("scheme", "name"), [("https", "shop.example.com"), ("http", "")])
def test_a_given_name_replaces_that_of_the_service(scheme: str, name: str) -> None:
    outside = ServerNode(address="api.example.com", port=443, is_name=True)
    port = msgspec.structs.replace(PORT, servers=(*PORT.servers, outside))
    annotations = {"scheme": scheme, "server-name": "shop.example.com"}
    section = TYPE.build_section(NODE, annotations, entrypoints=[(port, 5003)], middlewares=())
    (service,) = section.services.values()
    assert [each.tls_name for each in service.servers] == [name]
    assert [each.tls_name for each in service.names] == ["shop.example.com"]
