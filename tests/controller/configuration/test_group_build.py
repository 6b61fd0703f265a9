"""What a service contributes whose ports differ: in traffic type, annotations or entrypoints."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from maesh_core.controller.configuration.builder import build_service_configuration
from maesh_core.controller.configuration.catalogue import Catalogue
from maesh_core.controller.configuration.http import HttpTrafficType
from maesh_core.controller.configuration.tcp import TcpTrafficType
from maesh_core.errors import ConfigurationError
from maesh_core.model.configuration import ServiceConfiguration
from maesh_core.model.keys import ObjectKey
from maesh_core.model.topology import PortNode, ServerNode, ServiceNode
from maesh_core.plugin_system.hookspecs import Stage
from maesh_core.plugin_system.protocols import PortRange, TrafficType
from maesh_core.plugin_system.stream_traffic import StreamTrafficType

PREFIX = "maesh.containo.us/"
KEY = ObjectKey("shop", "cart")


class Udp(StreamTrafficType):
    name, transport = "udp", "UDP"


class Limit:
    """A middleware with one annotation; `stage` and the seen traffic types are for the test."""

    kind = "limit"
    annotations = ("limit",)

    def __init__(self, stage: Stage = Stage.LIMIT, *, is_always: bool = False) -> None:
        self.stage = stage
        self.is_always = is_always
        self.seen: list[tuple[str | None, list[int]]] = []

    def build_settings(self, annotations: Mapping[str, str], service: ServiceNode) -> Mapping[str, Any] | None:
        self.seen.append((service.traffic_type, [port.number for port in service.ports]))
        if annotations.get("limit") == "bad":
            raise ConfigurationError("annotation limit: 'bad' is not a number")
        if self.is_always:
            return {"type": service.traffic_type}
        return {"limit": annotations["limit"]} if "limit" in annotations else None


WEB, API = PortNode(number=80, name="web"), PortNode(number=81, name="api", index=1)
DB = PortNode(number=53, name="db", index=2, traffic_type="tcp")
DNS = PortNode(number=53, name="dns", protocol="UDP", index=3, traffic_type="udp")
ENTRYPOINTS = {"tcp": {53: 10000}, "udp": {53: 15000}}


def build(
    *ports: PortNode,
    builder: Limit | None = None,
    entrypoints: Mapping[str, Mapping[int, int]] = ENTRYPOINTS,
    pending: Mapping[str, frozenset[int]] | None = None,
    is_headless: bool = False,
    **annotations: str,
) -> ServiceConfiguration:
    full = {
        PREFIX + name.replace("__", ".").replace("_", "-").removeprefix("p"): text for name, text in annotations.items()
    }
    node = ServiceNode(key=KEY, traffic_type="http", ports=ports, annotations=full, is_headless=is_headless)
    own = PortRange(first=20000, limit=2, is_exclusive=True)
    types: list[TrafficType] = [
        HttpTrafficType(PortRange(first=5000, limit=3, is_exclusive=False), own_range=own),
        TcpTrafficType(PortRange(first=10000, limit=10, is_exclusive=True)),
        Udp(PortRange(first=15000, limit=10, is_exclusive=True)),
    ]
    catalogue = Catalogue(types, [builder or Limit()])
    return build_service_configuration(node, catalogue=catalogue, entrypoints=entrypoints, pending=pending)


def list_routers(configuration: ServiceConfiguration) -> dict[str, Sequence[str]]:
    return {name: sorted(section.routers) for name, section in configuration.sections.items()}


def test_http_tcp_and_udp_ports_of_one_service_are_each_served() -> None:
    found = build(WEB, API, DB, DNS)
    assert list_routers(found) == {
        "http": ["shop/cart:80", "shop/cart:81"],
        "tcp": ["shop/cart:53"],
        "udp": ["shop/cart:53"],
    }
    assert [(port.entrypoint, port.traffic_type) for port in found.ports] == [
        (5000, ""),
        (5001, ""),
        (10000, "tcp"),
        (15000, "udp"),
    ]
    assert (found.errors, found.notices) == ((), ())


def test_a_port_has_its_own_middleware_and_the_others_share_one() -> None:
    found = build(WEB, API, PortNode(number=82, index=2), limit="1", api__limit="2").sections["http"]
    assert {key: router.middlewares for key, router in found.routers.items()} == {
        "shop/cart:80": ("shop/cart/limit",),
        "shop/cart:81": ("shop/cart/limit/81",),
        "shop/cart:82": ("shop/cart/limit",),
    }
    assert found.middlewares["shop/cart/limit"].settings == {"limit": "1"}
    assert found.middlewares["shop/cart/limit/81"].settings == {"limit": "2"}


def test_a_port_with_other_annotations_shares_the_middlewares_that_do_not_differ() -> None:
    found = build(WEB, API, limit="1", api__scheme="h2c")
    section = found.sections["http"]
    assert [router.middlewares for router in section.routers.values()] == [("shop/cart/limit",)] * 2
    assert [section.services[key].scheme for key in ("shop/cart:80", "shop/cart:81")] == ["http", "h2c"]
    assert [port.scheme for port in found.ports] == ["http", "h2c"]


def test_an_annotation_of_one_port_alone_gives_the_others_no_middleware() -> None:
    section = build(WEB, API, web__limit="2").sections["http"]
    assert {key: router.middlewares for key, router in section.routers.items()} == {
        "shop/cart:80": ("shop/cart/limit/80",),
        "shop/cart:81": (),
    }


def test_an_error_of_one_port_closes_that_port_alone() -> None:
    found = build(WEB, API, DB, api__limit="bad")
    routers = found.sections["http"].routers
    assert (routers["shop/cart:80"].service, routers["shop/cart:81"].service) == ("shop/cart:80", None)
    assert routers["shop/cart:81"].reason == "port 81: annotation limit: 'bad' is not a number"
    assert found.errors == ("port 81: annotation limit: 'bad' is not a number",)
    assert [port.entrypoint for port in found.ports] == [5000, None, 10000]


def test_different_values_by_name_and_number_close_that_port_alone() -> None:
    found = build(WEB, API, api__limit="1", p81__limit="2")
    assert found.sections["http"].routers["shop/cart:81"].service is None
    assert found.sections["http"].routers["shop/cart:80"].service == "shop/cart:80"


def test_an_error_in_an_annotation_of_the_service_closes_every_port_without_its_own_value() -> None:
    routers = build(WEB, API, limit="bad", api__limit="1").sections["http"].routers
    assert [routers[key].service for key in sorted(routers)] == [None, "shop/cart:81"]


def test_a_guard_decides_for_each_traffic_type() -> None:
    guard = Limit(Stage.ADMISSION, is_always=True)
    found = build(WEB, API, DB, DNS, builder=guard, api__scheme="h2c")
    assert guard.seen == [("http", [80]), ("tcp", [53]), ("udp", [53]), ("http", [81])]
    for name, section in found.sections.items():
        assert section.middlewares["shop/cart/limit"].settings == {"type": name}
        assert {router.middlewares for router in section.routers.values()} == {("shop/cart/limit",)}


def test_a_type_that_no_plugin_supports_closes_its_port_alone() -> None:
    found = build(WEB, PortNode(number=81, index=1, traffic_type="odd"))
    routers = found.sections["http"].routers
    assert (routers["shop/cart:80"].service, routers["shop/cart:81"].service) == ("shop/cart:80", None)
    assert found.errors == ("no enabled plugin supports traffic type 'odd'; known: http, tcp, udp",)


def test_a_port_of_another_protocol_is_a_notice_as_long_as_something_is_served() -> None:
    udp = PortNode(number=82, protocol="UDP", index=2)
    text = "port 82 is UDP, which http does not support; 82.traffic-type selects another type"
    assert build(DB, udp).notices == (text,)
    assert build(DB, udp).errors == ()
    assert build(udp).errors == ("no port for traffic type http, which needs one with protocol TCP",)


def test_annotations_of_missing_ports_and_unknown_ones_are_notices() -> None:
    assert build(WEB, wbe__limit="1", web__limt="1").notices == (
        f"annotation {PREFIX}wbe.limit: the service has no port wbe",
        f"annotation {PREFIX}web.limt: no enabled plugin reads it; did you mean limit?",
    )


def test_an_annotation_without_effect_is_named_as_it_is_written() -> None:
    assert build(WEB, DB, db__limit="1").notices == (f"annotation {PREFIX}db.limit: has no effect on tcp",)
    assert build(WEB, DB, entrypoint="own", entrypoints={"tcp": {53: 10000}, "http/own": {80: 20000}}).notices == (
        f"annotation {PREFIX}entrypoint: has no effect on tcp",
    )


# --- own entrypoints ---


def test_a_port_with_an_own_entrypoint_keeps_the_shared_one_for_its_hosts() -> None:
    found = build(WEB, API, entrypoints={"http/own": {80: 20001}}, web__entrypoint="own")
    routers = found.sections["http"].routers
    assert [(router.entrypoint, router.own_entrypoint) for router in routers.values()] == [(5001, 0), (5000, 20001)]
    assert [(port.entrypoint, port.has_own_entrypoint) for port in found.ports] == [(20001, True), (5001, False)]


def test_a_port_behind_the_shared_range_can_have_an_own_entrypoint() -> None:
    far = PortNode(number=90, index=3)
    found = build(WEB, far, entrypoints={"http/own": {90: 20000}}, p90__entrypoint="own")
    router = found.sections["http"].routers["shop/cart:90"]
    assert (router.entrypoint, router.own_entrypoint) == (20000, 20000)
    assert found.errors == ()


def test_a_closed_port_keeps_its_own_entrypoint_which_shows_the_reason() -> None:
    found = build(WEB, entrypoints={"http/own": {80: 20000}}, entrypoint="own", limit="bad")
    (router,) = found.sections["http"].routers.values()
    assert (router.service, router.own_entrypoint) == (None, 20000)


def test_without_a_free_own_entrypoint_the_port_shares_one() -> None:
    found = build(WEB, entrypoint="own", entrypoints={})
    (router,) = found.sections["http"].routers.values()
    assert (router.service, router.own_entrypoint) == ("shop/cart:80", 0)
    assert found.errors == ("port 80 has no entrypoint of its own, so it shares one: all 2 from 20000 are in use",)
    waiting = build(WEB, entrypoint="own", entrypoints={}, pending={"http/own": frozenset({80})})
    assert (waiting.errors, waiting.notices) == ((), ("port 80 waits for its entrypoint to be written",))


def test_a_headless_service_shares_its_entrypoints() -> None:
    found = build(WEB, entrypoint="own", entrypoints={}, is_headless=True)
    assert (found.errors, found.notices) == (
        (),
        (f"annotation {PREFIX}entrypoint: has no effect on a headless service",),
    )


@pytest.mark.parametrize("value", ["Own", "", "private"])
def test_an_unknown_value_of_the_annotation_closes_the_service(value: str) -> None:
    found = build(WEB, entrypoint=value)
    assert found.errors[0].startswith(f"annotation entrypoint: {value!r} is not one of shared, own")


def test_a_server_of_each_port_is_that_of_its_section() -> None:
    tcp = PortNode(number=53, traffic_type="tcp", servers=(ServerNode(address="10.0.0.1", port=1),))
    udp = PortNode(number=53, traffic_type="udp", protocol="UDP", servers=(ServerNode(address="10.0.0.1", port=2),))
    found = build(tcp, udp)
    ports = {name: section.services["shop/cart:53"].servers[0].port for name, section in found.sections.items()}
    assert ports == {"tcp": 1, "udp": 2}


def test_only_the_tcp_port_that_asks_for_tls_gets_it() -> None:
    other = PortNode(number=54, name="other", index=4, traffic_type="tcp")
    entrypoints = {"tcp": {53: 10000, 54: 10001}, "udp": {53: 15000}}
    found = build(WEB, DB, other, DNS, entrypoints=entrypoints, db__scheme="tls")
    assert (found.errors, found.notices) == ((), ())
    schemes = {key: each.scheme for key, each in found.sections["tcp"].services.items()}
    assert schemes == {"shop/cart:53": "tls", "shop/cart:54": "http"}
    assert [port.scheme for port in found.ports] == ["http", "tls", "http", "http"]


@pytest.mark.parametrize(
    ("port", "problem"),
    [
        (WEB, "annotation scheme: 'tls' is not one of http, https, h2c; did you mean https?"),
        (DNS, "annotation scheme: 'tls' is only for tcp"),
    ],
)
def test_tls_is_an_error_for_ports_that_would_be_carried_in_clear(port: PortNode, problem: str) -> None:
    found = build(port, scheme="tls")
    assert found.errors == (problem,)
    assert all(not section.services for section in found.sections.values())


def test_the_scheme_of_one_port_replaces_that_of_all() -> None:
    found = build(DB, DNS, scheme="tls", dns__scheme="tcp")
    assert (found.errors, found.notices) == ((), ())
    assert found.sections["tcp"].services["shop/cart:53"].scheme == "tls"


@pytest.mark.parametrize(
    ("annotations", "notice"),
    [
        ({"scheme": "https"}, "scheme: has no effect on tcp; only scheme tls opens TLS to tcp servers"),
        ({"server_name": "db.example.com"}, "server-name: has no effect on servers without TLS"),
    ],
)
def test_an_annotation_that_seems_to_ask_for_tls_but_does_not_is_a_notice(annotations: Any, notice: str) -> None:
    assert build(DB, **annotations).notices == (f"annotation {PREFIX}{notice}",)


def test_a_server_name_needs_no_notice_where_servers_get_tls() -> None:
    assert build(WEB, scheme="https", server_name="web.example.com").notices == ()
    assert build(DB, scheme="tls", server_name="db.example.com").notices == ()


@pytest.mark.parametrize("name", ["", "10.0.0.1", "DB.example.com", "*.example.com", "a b", "x" * 300])
def test_a_server_name_that_is_no_dns_name_closes_the_port(name: str) -> None:
    found = build(DB, scheme="tls", server_name=name)
    assert "is not a DNS name in lower case" in found.errors[0]
    assert found.sections == {}
