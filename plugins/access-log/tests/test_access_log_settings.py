"""Settings that cannot be used are refused at the start; the controller reads one annotation."""

import pytest
from maesh_access_log import AccessLogSettings, ServiceAccessLog
from maesh_access_log.controller import AccessLogBuilder, ControllerHalf

from maesh_core.plugin import POD_NAMES, ConfigurationError


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"format": "jsn"}, "format: 'jsn' is not common, json"),
        ({"status": ("5xx",)}, "status: '5xx'"),
        ({"headers": ("User-Agent",)}, "only format json adds headers"),
        ({"headers": ("a b",), "format": "json"}, "headers: 'a b'"),
        ({"file": "a\0b"}, "cannot contain NUL"),
    ],
)
def test_a_setting_that_cannot_be_used_is_refused(settings, problem):
    with pytest.raises(ValueError, match=problem):
        AccessLogSettings(**settings)


def test_an_annotation_becomes_a_setting_of_the_service():
    (builder,) = ControllerHalf(AccessLogSettings()).maesh_middleware_builders()
    assert isinstance(builder, AccessLogBuilder)
    assert builder.build_settings({}, None) is None
    assert builder.build_settings({"access-log": "false"}, None) == ServiceAccessLog(is_logged=False)
    with pytest.raises(ConfigurationError, match="'maybe' is not true or false"):
        builder.build_settings({"access-log": "maybe"}, None)


@pytest.mark.parametrize(
    ("settings", "shows_pods"),
    [
        ({}, False),
        ({"format": "json"}, True),
        ({"format": "json", "client_pods": False}, False),
        ({"format": "%{ClientHost} %{ClientPod}"}, True),
        ({"format": "%{ClientHost} ClientPod"}, False),
    ],
)
def test_the_controller_sends_names_of_pods_only_for_a_format_that_shows_them(settings, shows_pods):
    given = AccessLogSettings(**settings)
    assert given.shows_pods == shows_pods
    assert ControllerHalf(given).maesh_optional_sections() == [POD_NAMES] * shows_pods
