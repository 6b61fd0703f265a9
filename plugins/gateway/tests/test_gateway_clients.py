"""The plugin asks for the namespaces of all clients, unless a setting limits them to those with consumer routes."""

import pytest
from maesh_gateway import GatewaySettings
from maesh_gateway.controller import ControllerHalf

from maesh_core.plugin import CLIENT_NAMESPACES


@pytest.mark.parametrize(
    ("settings", "asked"),
    [(GatewaySettings(), [CLIENT_NAMESPACES]), (GatewaySettings(client_namespaces="consumers"), [])],
)
def test_the_namespaces_of_all_clients_are_asked_for_by_default(settings, asked):
    assert ControllerHalf(settings).maesh_optional_sections() == asked
