"""Which traffic type a port has: its own annotation, the service's, its appProtocol, plugins, the default."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.controller.topology.traffic_types import add_found_types, add_traffic_types, read_traffic_type
from maesh_core.model.annotations import parse_annotations, split_port_annotations
from maesh_core.model.keys import ObjectKey
from maesh_core.model.schemes import TRAFFIC_TYPE_BY_APP_PROTOCOL
from maesh_core.model.topology import PortNode, ServiceNode

PREFIX = "maesh.containo.us/"


def find_types(
    *ports: PortNode, default: str = "http", found: Mapping[tuple[int, str], str] | None = None, **annotations: str
) -> tuple[list[str | None], list[str]]:
    """Return the traffic type of each port, and the errors."""
    errors: list[str] = []
    full = {
        PREFIX + name.replace("__", ".").replace("_", "-").removeprefix("p"): text for name, text in annotations.items()
    }
    annotations_of_ports = split_port_annotations(parse_annotations(full))
    of_service = read_traffic_type(annotations_of_ports, default, errors)
    node = ServiceNode(
        key=ObjectKey("shop", "cart"),
        traffic_type=of_service,
        annotations=full,
        ports=add_traffic_types(ports, annotations_of_ports, of_service, errors),
    )
    node = add_found_types(node, found or {})
    return [node.get_traffic_type(port) for port in node.ports], errors


WEB = PortNode(number=80, name="web")
DNS = PortNode(number=53, name="dns", protocol="UDP")


def test_without_any_choice_the_default_applies() -> None:
    assert find_types(WEB, DNS) == (["http", "http"], [])


def test_an_annotation_of_a_port_by_name_or_number_beats_that_of_the_service() -> None:
    assert find_types(WEB, DNS, traffic_type="tcp", dns__traffic_type="udp") == (["tcp", "udp"], [])
    assert find_types(WEB, DNS, traffic_type="tcp", p53__traffic_type="udp") == (["tcp", "udp"], [])
    assert find_types(WEB, p80__traffic_type="http", traffic_type="tcp") == (["http"], [])


@pytest.mark.parametrize(("app_protocol", "expected"), sorted(TRAFFIC_TYPE_BY_APP_PROTOCOL.items()))
def test_an_app_protocol_selects_the_type_of_a_tcp_port(app_protocol: str, expected: str) -> None:
    port = PortNode(number=80, app_protocol=app_protocol)
    for default in ("http", "tcp"):
        assert find_types(port, default=default) == ([expected], [])
    assert find_types(port, traffic_type="custom") == (["custom"], [])
    assert find_types(PortNode(number=80, protocol="UDP", app_protocol=app_protocol)) == (["http"], [])


def test_an_unknown_app_protocol_selects_nothing() -> None:
    assert find_types(PortNode(number=80, app_protocol="redis"), default="tcp") == (["tcp"], [])


def test_different_values_by_name_and_number_are_an_error() -> None:
    types, errors = find_types(WEB, web__traffic_type="tcp", p80__traffic_type="http")
    assert types == ["http"]
    assert errors == ["annotations 80.traffic-type and web.traffic-type are of one port, with different values"]


def test_invalid_values_are_errors_that_name_the_annotation() -> None:
    assert find_types(WEB, traffic_type="TCP") == ([None], ["annotation traffic-type: 'TCP' is not a traffic type"])
    assert find_types(WEB, web__traffic_type="a b") == (
        ["http"],
        ["annotation 80.traffic-type: 'a b' is not a traffic type"],
    )


def test_plugins_choose_only_where_nothing_else_does() -> None:
    found = {(80, "TCP"): "tcp", (443, "TCP"): "tcp"}
    chosen = PortNode(number=443, app_protocol="https")
    assert find_types(WEB, chosen, DNS, found=found) == (["tcp", "http", "http"], [])
    assert find_types(WEB, found=found, traffic_type="http") == (["http"], [])
    assert find_types(WEB, found=found, web__traffic_type="http") == (["http"], [])
    assert find_types(WEB, found={(80, "UDP"): "udp"}) == (["http"], [])


NAMES = st.sampled_from(["traffic-type", "80.traffic-type", "web.traffic-type", "81.traffic-type"])


@given(st.dictionaries(NAMES, st.sampled_from(["http", "tcp", "udp"])), st.sampled_from(["http", "tcp"]))
def test_the_annotation_of_another_port_never_matters(annotations: dict[str, str], default: str) -> None:
    def find(given: Mapping[str, str]) -> str | None:
        split = split_port_annotations(given)
        of_service = read_traffic_type(split, default, [])
        (port,) = add_traffic_types([WEB], split, of_service, [])
        return of_service if port.traffic_type is None else port.traffic_type

    others = {name: text for name, text in annotations.items() if not name.startswith("81.")}
    assert find(annotations) == find(others)
