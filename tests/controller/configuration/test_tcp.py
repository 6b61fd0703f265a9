"""TCP services: an entrypoint a port, and nothing at all for those that are closed."""

import msgspec
import pytest

from maesh_core.controller.configuration.tcp import TcpTrafficType
from maesh_core.errors import ConfigurationError
from maesh_core.model.configuration import Section, Server, Service, StreamRouter
from maesh_core.model.keys import ObjectKey
from maesh_core.model.topology import PortNode, ServerNode, ServiceNode
from maesh_core.plugin_system.protocols import PortRange

TYPE = TcpTrafficType(PortRange(first=10000, limit=10, is_exclusive=True))
PORT = PortNode(number=80, servers=(ServerNode(address="10.0.0.1", port=8080),))
NODE = ServiceNode(key=ObjectKey("shop", "db"), traffic_type="tcp", ports=(PORT,))


def test_a_port_becomes_a_router_and_a_service_of_one_key() -> None:
    section = TYPE.build_section(NODE, {}, entrypoints=[(PORT, 10003)], middlewares=("shop/db/a",))
    assert section.routers == {
        "shop/db:80": StreamRouter(entrypoint=10003, service="shop/db:80", middlewares=("shop/db/a",))
    }
    assert section.services == {"shop/db:80": Service(servers=(Server(address="10.0.0.1", port=8080),))}


def test_a_headless_service_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="headless"):
        TYPE.build_section(msgspec.structs.replace(NODE, is_headless=True), {}, entrypoints=[(PORT, 1)], middlewares=())


def test_nothing_stands_in_for_a_closed_service() -> None:
    assert TYPE.build_closed_section(NODE, entrypoints=[(PORT, 10003)], reason="because") == Section()
