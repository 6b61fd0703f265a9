"""Services with servers outside of the mesh: from their objects to the configuration of proxies, and their errors."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from maesh_core.controller.configuration.builder import build_service_configuration
from maesh_core.controller.configuration.catalogue import Catalogue
from maesh_core.controller.configuration.http import HttpTrafficType
from maesh_core.controller.configuration.tcp import TcpTrafficType
from maesh_core.controller.discovery.documents.parsing import KindTable, parse_manifest
from maesh_core.controller.resources.kinds import CORE_KINDS
from maesh_core.controller.resources.snapshot import Snapshot
from maesh_core.controller.topology.builder import build_service_node
from maesh_core.controller.topology.rules import TopologyRules
from maesh_core.model.configuration import NamedServer, Server, Service, ServiceConfiguration
from maesh_core.model.events import Replaced
from maesh_core.model.keys import ObjectKey
from maesh_core.model.topology import ServerNode
from maesh_core.plugin_system.protocols import PortRange

KEY = ObjectKey("shop", "api")
NAME = "api.example.com"
CATALOGUE = Catalogue(
    [
        HttpTrafficType(PortRange(first=5000, limit=10, is_exclusive=False)),
        TcpTrafficType(PortRange(first=10000, limit=10, is_exclusive=True)),
    ]
)


class Rules:
    """Allows all names but those that contain `evil`."""

    name = "egress"

    def find_problem(self, service: ObjectKey, host: str) -> str | None:
        return "is not allowed" if "evil" in host else None


def build_service(
    name: str = NAME,
    *,
    port: Mapping[str, Any] | None = None,
    annotations: Mapping[str, str] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    full = {f"maesh.containo.us/{key}": value for key, value in (annotations or {}).items()}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "api", "namespace": "shop", "annotations": full},
        "spec": {
            "type": "ExternalName",
            "externalName": name,
            "ports": [{"port": 80, "name": "web", **(port or {})}],
            **spec,
        },
    }


def build_slice(name: str, kind: str, *addresses: str, **endpoint: Any) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": "shop", "labels": {"kubernetes.io/service-name": "api"}},
        "addressType": kind,
        "ports": [{"name": "web", "port": 8443}],
        "endpoints": [{"addresses": [address], **endpoint} for address in addresses],
    }


SELECTORLESS = build_service(type="ClusterIP", externalName=None)


def build(*objects: Mapping[str, Any], has_rules: bool = True) -> tuple[Any, ServiceConfiguration | None]:
    """Build the node of the service and its configuration; None for both if the mesh ignores it."""
    content = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}).encode()
    found = [each.resource for each in parse_manifest(content, KindTable(CORE_KINDS), path="test.json").resources]
    snapshot = Snapshot(CORE_KINDS)
    snapshot.apply(
        [Replaced(kind.type, [each for each in found if type(each) is kind.type]) for kind in CORE_KINDS], source="test"
    )
    rules = TopologyRules(outside=Rules() if has_rules else None)
    node = build_service_node(snapshot.view(), KEY, rules=rules)
    if node is None:
        return None, None
    return node, build_service_configuration(node, catalogue=CATALOGUE, entrypoints={"tcp": {80: 10000}})


def get_service(configuration: ServiceConfiguration | None) -> Service:
    assert configuration is not None
    assert configuration.errors == ()
    (section,) = configuration.sections.values()
    return section.services["shop/api:80"]


def test_an_external_name_is_a_server_that_proxies_resolve() -> None:
    node, configuration = build(build_service(port={"targetPort": 8080}))
    assert node.ports[0].servers == (ServerNode(address=NAME, port=8080, is_name=True),)
    service = get_service(configuration)
    assert service.servers == ()
    assert service.names == (NamedServer(name=NAME, port=8080, host=NAME, hides_client=True),)
    assert service.scheme == "http"


def test_without_the_plugin_an_external_name_is_ignored() -> None:
    assert build(build_service(), has_rules=False) == (None, None)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("evil.test", "externalName 'evil.test' is not allowed"),
        ("10.0.0.1", "externalName '10.0.0.1' is an IP address"),
        ("web.shop.maesh", "externalName 'web.shop.maesh' is a name of the mesh itself"),
        ("web.shop.traefik.mesh", "is a name of the mesh itself"),
    ],
)
def test_a_name_that_is_not_carried_closes_the_service(name: str, problem: str) -> None:
    _, configuration = build(build_service(name))
    assert configuration is not None
    assert problem in configuration.errors[0]
    (section,) = configuration.sections.values()
    assert section.services == {}


def test_a_name_is_in_lower_case_and_without_final_dot() -> None:
    _, configuration = build(build_service("api.example.com."))
    assert get_service(configuration).names[0].name == NAME


def test_an_external_name_without_ports_says_what_it_needs() -> None:
    _, configuration = build(build_service(ports=[]))
    assert configuration is not None
    assert configuration.errors[0] == (
        "an ExternalName Service needs spec.ports: the port of the server, and its targetPort"
    )


def test_a_named_target_port_of_an_external_name_has_no_number() -> None:
    node, _ = build(build_service(port={"targetPort": "web"}))
    assert node.ports[0].servers == ()
    assert node.notices == (f"port 80: {NAME} has no TCP port 'web'",)


@pytest.mark.parametrize(
    ("port", "annotations", "scheme"),
    [
        ({"port": 443}, {}, "https"),
        ({"port": 80, "targetPort": 443}, {}, "https"),
        ({"port": 443}, {"scheme": "http"}, "http"),
        ({"port": 443, "appProtocol": "kubernetes.io/h2c"}, {}, "h2c"),
        ({"port": 8443, "appProtocol": "https"}, {}, "https"),
        ({"port": 8443}, {"scheme": "https"}, "https"),
        ({"port": 8443}, {}, "http"),
    ],
)
def test_port_443_of_an_outside_server_is_https_unless_something_else_is_said(
    port: Mapping[str, Any], annotations: Mapping[str, str], scheme: str
) -> None:
    _, configuration = build(build_service(port=port, annotations=annotations))
    assert configuration is not None
    (service,) = configuration.sections["http"].services.values()
    assert (service.scheme, configuration.ports[0].scheme) == (scheme, scheme)


def test_port_443_of_servers_in_the_mesh_is_not_https() -> None:
    slices = build_slice("a", "IPv4", "10.0.0.1")
    slices["ports"] = [{"name": "web", "port": 443}]
    _, configuration = build(SELECTORLESS, slices)
    assert get_service(configuration).scheme == "http"


@pytest.mark.parametrize(
    ("text", "host"), [("name", NAME), ("keep", ""), ("www.example.com", "www.example.com"), ("a:81", "a:81")]
)
def test_an_annotation_chooses_the_host_that_is_sent(text: str, host: str) -> None:
    _, configuration = build(build_service(annotations={"egress-host": text, "egress-forwarded": "true"}))
    assert get_service(configuration).names == (NamedServer(name=NAME, port=80, host=host),)


@pytest.mark.parametrize(
    "annotations",
    [
        {"egress-host": ""},
        {"egress-host": "A.example.com"},
        {"egress-host": "a b"},
        {"egress-host": "a:"},
        {"egress-host": "a:0"},
        {"egress-host": "a:99999"},
        {"egress-host": f"a:{'9' * 5000}"},
        {"egress-host": "a\r\nb"},
        {"egress-forwarded": "maybe"},
    ],
)
def test_an_invalid_annotation_closes_the_service(annotations: Mapping[str, str]) -> None:
    _, configuration = build(build_service(annotations=annotations))
    assert configuration is not None
    assert configuration.errors[0].startswith(f"annotation {next(iter(annotations))}: ")


def test_names_in_slices_stand_beside_addresses() -> None:
    objects = [
        SELECTORLESS,
        build_slice("a", "FQDN", NAME, "evil.test"),
        build_slice("b", "IPv4", "10.0.0.1"),
    ]
    node, configuration = build(*objects)
    service = get_service(configuration)
    assert service.servers == (Server(address="10.0.0.1", port=8443),)
    assert service.names == (NamedServer(name=NAME, port=8443, host=NAME, hides_client=True),)
    assert node.notices == ("EndpointSlice a@shop: 'evil.test' is not allowed; it is skipped",)


def test_a_name_that_is_not_ready_gets_no_traffic() -> None:
    node, _ = build(SELECTORLESS, build_slice("a", "FQDN", NAME, conditions={"ready": False}))
    assert node.ports[0].servers == ()
    assert "not ready" in node.ports[0].unserved


def test_without_the_plugin_names_in_slices_are_skipped() -> None:
    node, _ = build(SELECTORLESS, build_slice("a", "FQDN", NAME), has_rules=False)
    assert node.ports[0].servers == ()
    assert node.notices == (
        "EndpointSlice a@shop: names in place of addresses (FQDN) need plugin egress; it is skipped",
    )


def test_tcp_services_have_names_too() -> None:
    _, configuration = build(build_service(annotations={"traffic-type": "tcp"}))
    service = get_service(configuration)
    assert (service.servers, service.names) == ((), (NamedServer(name=NAME, port=80),))
