"""The parts of a controller from its settings and plugins; whole controllers are in test_run.py."""

from typing import Any

import pytest

from maesh_core.controller.api.security.protection import choose_certifier
from maesh_core.controller.building import (
    build_engine,
    build_own_range,
    check_port_ranges,
    collect_kinds,
    is_cluster_meant,
)
from maesh_core.controller.configuration.tcp import TcpTrafficType
from maesh_core.controller.ports.mapping_file import PortMappingFile
from maesh_core.errors import PluginError, StartupError
from maesh_core.plugin_system.loading import load_plugins
from maesh_core.plugin_system.protocols import PortRange
from maesh_core.settings import ControllerSettings


def test_a_named_cluster_excludes_manifests():
    with pytest.raises(StartupError, match="give one of them"):
        is_cluster_meant(ControllerSettings(paths=("a",), kubeconfig="b"), is_alone=True)
    assert is_cluster_meant(ControllerSettings(), is_alone=True)
    assert not is_cluster_meant(ControllerSettings(), is_alone=False)


def test_traffic_types_do_not_share_entrypoints():
    one, other = (TcpTrafficType(PortRange(first=first, limit=10, is_exclusive=True)) for first in (10000, 10009))
    with pytest.raises(StartupError, match="overlap"):
        check_port_ranges([one, other])


@pytest.mark.parametrize(
    ("settings", "is_available"),
    [({}, False), ({"default_entrypoint": "own"}, True), ({"own_http_port": 16001}, True)],
)
def test_own_entrypoints_that_nobody_asked_for_give_way_to_others_on_their_ports(settings, is_available, caplog):
    others = [PortRange(first=15500, limit=600, is_exclusive=True)]
    assert (build_own_range(ControllerSettings(**settings), others) is not None) is is_available
    assert ("not available" in caplog.text) is not is_available
    assert build_own_range(ControllerSettings(**settings), []) is not None


def test_only_one_plugin_can_protect_the_api():
    one: Any = object()
    other: Any = object()
    assert choose_certifier([one], str) is one
    assert choose_certifier([], str) is None
    with pytest.raises(PluginError, match="only one plugin can protect the API, and there are a and a"):
        choose_certifier([one, other], lambda certifier: "a")


@pytest.mark.parametrize("is_cluster", [True, False])
def test_shadow_services_are_read_in_a_cluster_only(is_cluster):
    plugins = load_plugins("controller", (), {})
    engine = build_engine(
        ControllerSettings(),
        plugins,
        kinds=collect_kinds(plugins),
        sources=(),
        mapping_file=PortMappingFile(None),
        is_cluster=is_cluster,
    )
    assert engine.rules.has_shadows is is_cluster
    assert engine.rules.is_pod_fallback is not is_cluster
