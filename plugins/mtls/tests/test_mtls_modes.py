"""Annotations and nodes in, modes and entries out."""

import pytest
from maesh_mtls import MtlsSettings
from maesh_mtls.controller.modes import MtlsRules, normalise_serial
from maesh_mtls.proxy.enrolment import render_serial
from maesh_mtls.wire import NodeEntry

from maesh_core.plugin import ConfigurationError, MeshNode, ObjectKey, PodNode, ServiceNode

SERVICE = ServiceNode(key=ObjectKey("shop", "web"), traffic_type="http")


def build_pod(address):
    return PodNode(key=ObjectKey("maesh", address), service_account="maesh-proxy", address=address)


@pytest.mark.parametrize("mode", ["off", "permissive", "strict"])
def test_the_annotation_wins_over_the_setting(mode):
    rules = MtlsRules(MtlsSettings(mode="strict"))
    assert rules.build_mode({"encryption": mode}, SERVICE) == mode
    assert rules.build_mode({}, SERVICE) == "strict"
    assert MtlsRules(MtlsSettings()).build_mode({}, SERVICE) == "permissive"


@pytest.mark.parametrize("text", ["", "on", "Strict", "true"])
def test_an_unknown_mode_is_an_error(text):
    with pytest.raises(ConfigurationError, match=r"annotation encryption: .* is not one of off, permissive, strict"):
        MtlsRules(MtlsSettings()).build_mode({"encryption": text}, SERVICE)


def test_a_node_is_described_by_its_proxies():
    rules = MtlsRules(MtlsSettings(port=15009, domain="mesh.example", revoked=("n1/0a1b", "n1/2", "n2/3")))
    node = MeshNode(name="n1", proxies=(build_pod("10.0.0.2"), build_pod("10.0.0.1")))
    assert rules.describe_node(node) == NodeEntry(
        addresses=("10.0.0.2", "10.0.0.1"),
        port=15009,
        identity="spiffe://mesh.example/maesh/node/n1",
        revoked=("0A1B", "02"),
    )


def test_a_node_without_proxies_takes_no_part():
    assert MtlsRules(MtlsSettings()).describe_node(MeshNode(name="n1")) is None


@pytest.mark.parametrize(("text", "serial"), [("1", "01"), ("0a", "0A"), ("00ABC", "0ABC"), ("abcd", "ABCD")])
def test_serial_numbers_are_written_as_certificates_show_them(text, serial):
    assert normalise_serial(text) == serial == render_serial(int(text, 16))


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"domain": "Cluster"}, "domain: 'Cluster' is not a domain"),
        ({"certificate_lifetime": 3599}, "from 1h to 168h"),
        ({"certificate_lifetime": 604801}, "from 1h to 168h"),
        ({"port": 0}, "port: 0 is not from 1 to 65535"),
        ({"revoked": ("n1",)}, "'n1' is not NODE/SERIAL"),
        ({"revoked": ("n1/xyz",)}, "is not NODE/SERIAL"),
    ],
)
def test_a_bad_setting_is_named(settings, problem):
    with pytest.raises(ValueError, match=problem):
        MtlsSettings(**settings)
