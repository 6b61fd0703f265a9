"""The port of a request is found by number, protocol or name, and its type and scheme are those of the topology."""

from typing import Any

import pytest

from maesh_core.controller.explaining.service_ports import (
    find_port,
    find_scheme_source,
    find_service_key,
    find_traffic_type,
    fits,
)
from maesh_core.errors import ConfigurationError
from maesh_core.model.keys import ObjectKey

SERVICE: dict[str, Any] = {
    "name": "dns",
    "trafficType": "udp",
    "annotations": {"maesh.containo.us/scheme": "h2c"},
    "ports": [
        {"port": 53, "protocol": "TCP", "name": "plain", "trafficType": "tcp"},
        {"port": 53, "protocol": "UDP"},
        {"port": 80, "protocol": "TCP", "appProtocol": "kubernetes.io/h2c"},
    ],
}


def test_a_service_is_found_by_its_name_or_by_a_cluster_address():
    services: dict[str, dict[str, Any]] = {
        "web@shop": {"name": "web", "namespace": "shop", "clusterIps": ["10.96.0.1", "fd00::1"]},
        "db@shop": {"name": "db", "namespace": "shop", "clusterIps": [], "shadowIps": ["10.96.0.2"]},
    }
    for text in ("web.shop", "shop/web", "10.96.0.1", "fd00::1", "[FD00:0::1]"):
        assert find_service_key(text, services) == ObjectKey("shop", "web")
    assert find_service_key("10.96.0.2", services) == ObjectKey("shop", "db")
    assert find_service_key("gone.shop", services) == ObjectKey("shop", "gone")
    with pytest.raises(ConfigurationError, match=r"10\.96\.0\.3 is not a cluster address of a service of the mesh"):
        find_service_key("10.96.0.3", services)


def test_a_port_is_found_by_number_protocol_or_name():
    assert find_port(SERVICE, None)["protocol"] == "TCP"
    assert find_port(SERVICE, "53/udp")["protocol"] == "UDP"
    assert find_port(SERVICE, "plain")["trafficType"] == "tcp"
    with pytest.raises(ConfigurationError, match=r"no port 54; its ports: 53/tcp \(plain\), 53/udp, 80/tcp"):
        find_port(SERVICE, 54)


def test_the_traffic_type_is_that_of_the_port_or_of_the_service():
    assert [find_traffic_type(SERVICE, port) for port in SERVICE["ports"]] == ["tcp", "udp", "udp"]
    assert [fits(SERVICE, port) for port in SERVICE["ports"]] == [True, True, False]


def test_the_scheme_is_selected_by_an_annotation_or_by_the_port():
    assert find_scheme_source(SERVICE, 80) == "annotation scheme"
    assert find_scheme_source({**SERVICE, "annotations": {}}, 80) == "appProtocol kubernetes.io/h2c"
    assert find_scheme_source({**SERVICE, "annotations": {}}, 53) == ""
