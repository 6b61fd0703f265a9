"""TCP services: an entrypoint a port, and nothing at all for those that are closed."""

import msgspec
import pytest

from maesh_core.controller.configuration.tcp import TcpTrafficType
from maesh_core.errors import ConfigurationError
from maesh_core.model.configuration import Answer, NamedServer, Section, Server, Service, StreamRouter, list_targets
from maesh_core.model.keys import ObjectKey
from maesh_core.model.matches import HttpMatch
from maesh_core.model.topology import (
    AnswerNode,
    BackendNode,
    BranchNode,
    OrderedMatch,
    PortNode,
    RuleTable,
    ServerNode,
    ServiceNode,
)
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


def build_table(*backends: str) -> RuleTable:
    """Build a table of one rule, which divides all connections among these services; without any, it has no rule."""
    none = AnswerNode(404, "none")
    if not backends:
        return RuleTable(no_match=none)
    shares = tuple(BackendNode(service=ObjectKey("shop", name), weight=1, port=PORT) for name in backends)
    rule = BranchNode(name="r", backends=shares)
    return RuleTable(no_match=none, rules=(rule,), order=(OrderedMatch(match=HttpMatch(), rule=0),))


@pytest.mark.parametrize("has_producer", [True, False])
def test_clients_of_a_namespace_get_the_service_of_their_rule(has_producer: bool) -> None:
    port = msgspec.structs.replace(
        PORT,
        rules=build_table("v1") if has_producer else None,
        consumers={"lab": build_table("v1", "v2"), "none": build_table()},
    )
    section = TYPE.build_section(NODE, {}, entrypoints=[(port, 10003)], middlewares=("shop/db/a",))
    router = section.routers["shop/db:80"]
    assert router.service == ("shop/db:80/rule/r" if has_producer else "shop/db:80")
    assert router.consumers == {"lab": "shop/db:80/consumer/lab/r", "none": "shop/db:80/consumer/none"}
    assert set(list_targets(router)) == {router.service, *router.consumers.values()} <= section.services.keys()
    parts = section.services["shop/db:80/consumer/lab/r"].parts
    assert [(each.service, each.weight) for each in parts] == [
        ("shop/db:80/backend/shop/v1:80", 1),
        ("shop/db:80/backend/shop/v2:80", 1),
    ]
    assert section.services["shop/db:80/consumer/none"].answer == Answer(status=503, reason="no rule applies")
    assert {part.service for part in parts} <= section.services.keys()


def test_a_headless_service_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="headless"):
        TYPE.build_section(msgspec.structs.replace(NODE, is_headless=True), {}, entrypoints=[(PORT, 1)], middlewares=())


def test_nothing_stands_in_for_a_closed_service() -> None:
    assert TYPE.build_closed_section(NODE, entrypoints=[(PORT, 10003)], reason="because") == Section()


OUTSIDE = PortNode(number=81, servers=(PORT.servers[0], ServerNode(address="db.example.com", port=5433, is_name=True)))


@pytest.mark.parametrize(
    ("annotations", "tls_name", "outside_name"),
    [
        ({"scheme": "tls"}, "db.shop.svc", ""),
        ({"scheme": "tls", "server-name": "all.example.com"}, "all.example.com", "all.example.com"),
    ],
)
def test_servers_with_tls_have_the_name_of_their_service_unless_it_is_given(
    annotations: dict[str, str], tls_name: str, outside_name: str
) -> None:
    section = TYPE.build_section(NODE, annotations, entrypoints=[(OUTSIDE, 10003)], middlewares=())
    service = section.services["shop/db:81"]
    assert service.scheme == "tls"
    assert service.servers == (Server(address="10.0.0.1", port=8080, tls_name=tls_name),)
    assert service.names == (NamedServer(name="db.example.com", port=5433, tls_name=outside_name),)


@pytest.mark.parametrize("scheme", ["http", "https", "h2c", "tcp"])
def test_other_schemes_leave_the_bytes_as_they_are(scheme: str) -> None:
    annotations = {"scheme": scheme, "server-name": "db.example.com"}
    section = TYPE.build_section(NODE, annotations, entrypoints=[(PORT, 10003)], middlewares=())
    assert section.services["shop/db:80"] == Service(servers=(Server(address="10.0.0.1", port=8080),))


def test_each_backend_has_the_scheme_of_its_own_service() -> None:
    encrypted = BackendNode(
        service=ObjectKey("shop", "v2"), weight=1, port=PORT, annotations={"maesh.containo.us/scheme": "tls"}
    )
    plain = BackendNode(service=ObjectKey("shop", "v1"), weight=1, port=PORT)
    port = msgspec.structs.replace(PORT, branches=(BranchNode(name="s", backends=(plain, encrypted)),))
    section = TYPE.build_section(NODE, {}, entrypoints=[(port, 10003)], middlewares=())
    found = {key.rpartition("/")[2]: (each.scheme, each.servers) for key, each in section.services.items()}
    assert found["v1"] == ("http", (Server(address="10.0.0.1", port=8080),))
    assert found["v2"] == ("tls", (Server(address="10.0.0.1", port=8080, tls_name="v2.shop.svc"),))
