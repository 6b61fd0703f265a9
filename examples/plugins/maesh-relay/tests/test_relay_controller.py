"""The controller's half: modes of services, and nodes that take part."""

import pytest
from maesh_relay import RelayNode, RelaySettings
from maesh_relay.controller import RelayRules

from maesh_core.plugin import ConfigurationError, MeshNode, ObjectKey, PodNode, ServiceNode

SERVICE = ServiceNode(ObjectKey("shop", "web"), "http")


def test_the_annotation_has_precedence_over_the_setting():
    rules = RelayRules(RelaySettings(mode="off"))
    assert rules.build_mode({}, SERVICE) == "off"
    assert rules.build_mode({"relay": "strict"}, SERVICE) == "strict"


def test_an_unknown_mode_closes_the_service():
    with pytest.raises(ConfigurationError, match="relay"):
        RelayRules(RelaySettings()).build_mode({"relay": "always"}, SERVICE)


def test_a_node_with_a_proxy_takes_part():
    rules = RelayRules(RelaySettings(port=1234))
    pod = PodNode(ObjectKey("maesh", "proxy"), "maesh", "10.0.0.1")
    assert rules.describe_node(MeshNode("a", (pod,))) == RelayNode(("10.0.0.1",), 1234)
    assert rules.describe_node(MeshNode("b")) is None
