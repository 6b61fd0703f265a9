"""How the ports of a service are grouped, and on which entrypoints they are served."""

from collections.abc import Mapping

from maesh_core.controller.configuration.catalogue import Catalogue
from maesh_core.controller.configuration.http import HttpTrafficType
from maesh_core.controller.configuration.port_plan import (
    find_unsupported_types,
    list_groups,
    plan_claims,
    plan_entrypoints,
    plan_ports,
    show_group,
)
from maesh_core.controller.configuration.tcp import TcpTrafficType
from maesh_core.model.keys import ObjectKey
from maesh_core.model.topology import PortNode, ServiceNode
from maesh_core.plugin_system.protocols import PortRange
from maesh_core.plugin_system.stream_traffic import StreamTrafficType

PREFIX = "maesh.containo.us/"


class Udp(StreamTrafficType):
    name, transport = "udp", "UDP"


def make_catalogue(*, is_own_default: bool = False) -> Catalogue:
    shared = PortRange(first=5000, limit=2, is_exclusive=False)
    own = PortRange(first=20000, limit=10, is_exclusive=True)
    return Catalogue(
        [
            HttpTrafficType(shared, own_range=own, is_own_default=is_own_default),
            TcpTrafficType(PortRange(first=10000, limit=10, is_exclusive=True)),
            Udp(PortRange(first=15000, limit=10, is_exclusive=True)),
        ]
    )


CATALOGUE = make_catalogue()
WEB, API = PortNode(number=80, name="web"), PortNode(number=81, name="api", index=1)
DB = PortNode(number=53, name="db", index=2, traffic_type="tcp")
DNS = PortNode(number=53, name="dns", protocol="UDP", index=3, traffic_type="udp")


def make_node(*ports: PortNode, is_headless: bool = False, **annotations: str) -> ServiceNode:
    full = {
        PREFIX + name.replace("__", ".").replace("_", "-").removeprefix("p"): text for name, text in annotations.items()
    }
    return ServiceNode(
        key=ObjectKey("shop", "cart"), traffic_type="http", ports=ports, annotations=full, is_headless=is_headless
    )


def describe(node: ServiceNode) -> list[tuple[str | None, list[int], Mapping[str, str], int]]:
    return [
        (group.type_name, [port.number for port in group.ports], group.annotations, group.own_port)
        for group in list_groups(node, CATALOGUE)
    ]


def test_ports_without_annotations_of_their_own_are_one_group_for_each_type() -> None:
    assert describe(make_node(WEB, API, DB, DNS, retry_attempts="2")) == [
        ("http", [80, 81], {"retry-attempts": "2"}, 0),
        ("tcp", [53], {"retry-attempts": "2"}, 0),
        ("udp", [53], {"retry-attempts": "2"}, 0),
    ]


def test_a_port_with_annotations_of_its_own_is_a_group_of_its_own() -> None:
    assert describe(make_node(WEB, API, retry_attempts="2", api__retry_attempts="5", p81__scheme="h2c")) == [
        ("http", [80], {"retry-attempts": "2"}, 0),
        ("http", [81], {"retry-attempts": "5", "scheme": "h2c"}, 81),
    ]


def test_a_port_that_repeats_the_values_of_its_service_is_in_its_group() -> None:
    assert [each[1] for each in describe(make_node(WEB, API, scheme="h2c", api__scheme="h2c"))] == [[80, 81]]


def test_a_traffic_type_of_its_own_alone_does_not_make_a_group_of_one_port() -> None:
    node = make_node(WEB, DB, PortNode(number=54, traffic_type="tcp"), db__traffic_type="tcp", p54__traffic_type="tcp")
    assert [(each[0], each[1], each[3]) for each in describe(node)] == [("http", [80], 0), ("tcp", [53, 54], 0)]


def test_different_values_by_name_and_number_are_a_problem_of_that_port_alone() -> None:
    groups = list_groups(make_node(WEB, API, api__scheme="h2c", p81__scheme="https"), CATALOGUE)
    assert [(group.own_port, bool(group.problem)) for group in groups] == [(0, False), (81, True)]


def test_a_service_without_ports_has_one_group() -> None:
    assert describe(make_node()) == [("http", [], {}, 0)]


def test_plugins_see_a_group_as_a_service() -> None:
    node = make_node(WEB, API, DB, retry_attempts="2", api__retry_attempts="5")
    shown = [show_group(node, group) for group in list_groups(node, CATALOGUE)]
    assert [(each.traffic_type, [port.number for port in each.ports]) for each in shown] == [
        ("http", [80]),
        ("tcp", [53]),
        ("http", [81]),
    ]
    assert [each.annotations["retry-attempts"] for each in shown] == ["2", "2", "5"]
    assert all(each.annotations[PREFIX + "api.retry-attempts"] == "5" for each in shown)
    assert all(port.traffic_type is None for each in shown for port in each.ports)


def test_claims_and_entrypoints_are_those_of_each_ports_type() -> None:
    node = make_node(WEB, API, DB, DNS)
    assert plan_ports(node, CATALOGUE) == (WEB, API, DB, DNS)
    assert plan_claims(node, CATALOGUE) == {"tcp": (53,), "udp": (53,)}
    entrypoints = {"tcp": {53: 10001}, "udp": {53: 15002}}
    assert plan_entrypoints(node, CATALOGUE, entrypoints) == ((WEB, 5000), (API, 5001), (DB, 10001), (DNS, 15002))


def test_a_port_that_wants_an_own_entrypoint_claims_one_and_is_reached_on_it() -> None:
    late = PortNode(number=82, index=2)
    node = make_node(WEB, API, late, api__entrypoint="own", p82__entrypoint="own")
    assert plan_claims(node, CATALOGUE) == {"http/own": (81, 82)}
    assert plan_entrypoints(node, CATALOGUE, {"http/own": {82: 20001}}) == ((WEB, 5000), (API, 5001), (late, 20001))
    assert plan_entrypoints(node, CATALOGUE, {}) == ((WEB, 5000), (API, 5001))


def test_the_default_of_the_mesh_is_for_ports_without_the_annotation() -> None:
    node = make_node(WEB, API, DB, web__entrypoint="shared")
    assert plan_claims(node, make_catalogue(is_own_default=True)) == {"http/own": (81,), "tcp": (53,)}


def test_a_headless_service_claims_nothing() -> None:
    assert plan_claims(make_node(WEB, DB, is_headless=True, entrypoint="own"), CATALOGUE) == {}


def test_unsupported_types_are_found_for_each_port() -> None:
    odd = PortNode(number=1, traffic_type="odd")
    assert find_unsupported_types(list_groups(make_node(WEB, odd), CATALOGUE)) == ["odd"]
    assert find_unsupported_types(list_groups(make_node(WEB), CATALOGUE)) == []
    assert plan_ports(make_node(WEB, odd), CATALOGUE) == (WEB,)
