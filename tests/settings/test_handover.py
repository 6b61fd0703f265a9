"""Settings on their way from one process of the mesh to another."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.errors import SettingsError
from maesh_core.settings import InstalledPlugin, ProxySettings
from maesh_core.settings.handover import parse_proxy_settings, render_proxy_settings

NAMES = st.text("ab-", min_size=1)


@given(port=st.integers(0, 65535), names=st.lists(NAMES, max_size=3))
def test_parsed_settings_equal_those_that_were_rendered(port, names):
    plugins = tuple(
        InstalledPlugin(name=name, distribution=name, version="1", summary="", is_default=False, path="m:PLUGIN")
        for name in names
    )
    settings = ProxySettings(admin_port=port, plugins=plugins, plugin_settings={"a": {"k": names}})
    assert parse_proxy_settings(render_proxy_settings(settings)) == settings


@pytest.mark.parametrize("text", ["", "{", "[]", '{"admin_port": "x"}', '{"admin_port": 70000}'])
def test_what_is_not_the_settings_of_a_proxy_is_refused(text):
    with pytest.raises(SettingsError, match="MAESH_PROXY_SETTINGS_JSON"):
        parse_proxy_settings(text)
