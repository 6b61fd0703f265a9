"""The controller's half of the stamp plugin: annotations in, settings or errors out."""

import importlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maesh_core.plugin import HOOK_API_VERSION, ConfigurationError, ObjectKey, ServiceNode

SERVICE = ServiceNode(key=ObjectKey("shop", "cart"), traffic_type="http")


@pytest.fixture
def build():
    """Build settings from one annotation, with a prefix if asked."""
    stamp = importlib.import_module("maesh_stamp")
    controller = importlib.import_module("maesh_stamp.controller")

    def build_settings(text, prefix=""):
        half = controller.ControllerHalf(stamp.StampSettings(prefix=prefix))
        (builder,) = half.maesh_middleware_builders()
        return builder.build_settings({} if text is None else {"stamp": text}, SERVICE)

    return build_settings


def test_plugin_was_made_for_the_current_hook_api():
    assert importlib.import_module("maesh_stamp").PLUGIN.hook_api_version == HOOK_API_VERSION


def test_annotation_gives_name_and_value(build):
    assert build("X-Team: payments") == {"name": "X-Team", "value": "payments"}


def test_value_keeps_its_own_colons_and_inner_spaces(build):
    assert build("X-Url:http://a b:1 ") == {"name": "X-Url", "value": "http://a b:1"}


def test_prefix_comes_before_the_name(build):
    assert build("Team: payments", prefix="X-") == {"name": "X-Team", "value": "payments"}


def test_service_without_annotation_has_no_stamp(build):
    assert build(None) is None


@pytest.mark.parametrize(
    "text",
    ["", ":", "X-Team", "X-Team:", ": payments", "X Team: payments", "X-Team: pay\r\nX-Evil: 1", "X-Team: zurück"],
)
def test_what_is_no_header_is_an_error_that_shows_it(build, text):
    with pytest.raises(ConfigurationError, match="stamp"):
        build(text)


@given(text=st.text())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_annotation_ever_breaks_out_of_its_header(build, text):
    try:
        header = build(text)
    except ConfigurationError:
        return
    assert not set(header["name"] + header["value"]) & set("\r\n\0")
    assert ":" not in header["name"]
    assert f"{header['name']}: {header['value']}".isascii()
