"""Help texts and documentation show flags in groups, what people type most first."""

import pytest

from maesh_core.cli.flag_groups import group_fields
from maesh_core.settings import ControllerSettings, PluginsSettings, PrepareSettings, ProxySettings, UpSettings
from maesh_core.settings.fields import list_fields

CLASSES = [UpSettings, ControllerSettings, ProxySettings, PrepareSettings, PluginsSettings]


@pytest.mark.parametrize("settings_class", CLASSES)
def test_every_flag_is_in_exactly_one_group(settings_class):
    fields = list_fields(settings_class)
    grouped = [field for group in group_fields(fields).values() for field in group]
    assert sorted(field.name for field in grouped) == sorted(field.name for field in fields)


def test_a_group_without_flags_is_left_out():
    assert list(group_fields(list_fields(PluginsSettings))) == ["Options", "Logging and settings"]


@pytest.mark.parametrize(
    ("settings_class", "first"),
    [
        (
            UpSettings,
            ["bind", "http_port", "tcp_port", "api_port", "admin_port", "workers", "recursive", "json", "node"],
        ),
        (ProxySettings, ["endpoint", "bind", "admin_host", "admin_port", "workers", "node", "configuration_cache"]),
    ],
)
def test_the_first_group_is_what_people_type(settings_class, first):
    assert [field.name for field in group_fields(list_fields(settings_class))["Options"]] == first
