"""The settings of controllers that commands build for manifests."""

from typing import Any

import pytest

from maesh_core.plugin_system.metadata import list_installed
from maesh_core.settings import ControllerSettings, ExplainSettings, ManifestCommandSettings, ManifestSettings
from maesh_core.settings.check import CheckSettings
from maesh_core.settings.states import DiffSettings, SimulateSettings, build_controller_settings

FIELDS: dict[str, Any] = {
    "recursive": True,
    "namespace": "mesh",
    "default_mode": "tcp",
    "watch_namespaces": ("shop",),
    "ignore_namespaces": ("old",),
    "plugin_settings": {"acl": {"mode": "audit"}},
}


@pytest.mark.parametrize(
    "type_", [CheckSettings, DiffSettings, ExplainSettings, ManifestCommandSettings, SimulateSettings]
)
def test_every_command_that_reads_manifests_passes_on_what_its_flags_say(type_: type[ManifestSettings]) -> None:
    plugins = tuple(list_installed()[:2])
    found = build_controller_settings(type_(**FIELDS), ("a", "b"), plugins)
    assert found == ControllerSettings(paths=("a", "b"), plugins=plugins, **FIELDS)
