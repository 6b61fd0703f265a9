"""The controller's half of the stamp plugin: annotations in, settings or errors out."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from maesh_stamp import HeaderSettings, StampSettings
from maesh_stamp.controller import ControllerHalf

from maesh_core.plugin import ConfigurationError, ObjectKey, ServiceNode

SERVICE = ServiceNode(key=ObjectKey("shop", "cart"), traffic_type="http")


def build(text, prefix=""):
    """Build settings from one annotation."""
    (builder,) = ControllerHalf(StampSettings(prefix=prefix)).maesh_middleware_builders()
    return builder.build_settings({} if text is None else {"stamp": text}, SERVICE)


def test_annotation_gives_name_and_value():
    assert build("X-Team: payments") == HeaderSettings(name="X-Team", value="payments")


def test_value_keeps_its_own_colons_and_inner_spaces():
    assert build("X-Url:http://a b:1 ") == HeaderSettings(name="X-Url", value="http://a b:1")


def test_prefix_comes_before_the_name():
    assert build("Team: payments", prefix="X-") == HeaderSettings(name="X-Team", value="payments")


def test_service_without_annotation_has_no_stamp():
    assert build(None) is None


@pytest.mark.parametrize(
    "text",
    ["", ":", "X-Team", "X-Team:", ": payments", "X Team: payments", "X-Team: pay\r\nX-Evil: 1", "X-Team: zurück"],
)
def test_what_is_no_header_is_an_error_that_shows_it(text):
    with pytest.raises(ConfigurationError, match="stamp"):
        build(text)


@given(text=st.text() | st.from_regex(r"[!-~]+:.*"))
@example(text="X-Team: payments")
def test_no_annotation_ever_breaks_out_of_its_header(text):
    try:
        header = build(text)
    except ConfigurationError:
        return
    assert header is not None
    assert not set(header.name + header.value) & set("\r\n\0")
    assert ":" not in header.name
    assert f"{header.name}: {header.value}".isascii()
