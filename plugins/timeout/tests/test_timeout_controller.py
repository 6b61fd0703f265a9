"""Annotations or the field of a rule in, time-outs or an error out."""

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from maesh_timeout.controller import TimeoutBuilder
from maesh_timeout.settings import ServiceTimeout

from maesh_core.plugin import ConfigurationError, FilterRequest, ObjectKey, PortNode, ServiceNode

SERVICE = ServiceNode(key=ObjectKey("shop", "cart"), traffic_type="http")
BUILDER = TimeoutBuilder()


def send(built):
    """Return what the proxy would get, as (request, attempt)."""
    if built is None:
        return None
    sent = msgspec.convert(msgspec.json.decode(msgspec.json.encode(built)), ServiceTimeout)
    return sent.request_s, sent.attempt_s


def build(request=None, attempt=None):
    texts = {"request-timeout": request, "backend-request-timeout": attempt}
    return send(BUILDER.build_settings({name: text for name, text in texts.items() if text is not None}, SERVICE))


def build_filter(**value):
    request = FilterRequest(name="timeouts", value=value, matches=(), port=PortNode(number=80))
    return send(BUILDER.build_filter([request], SERVICE))


def test_a_service_without_the_annotations_has_no_time_outs():
    assert build() is None


def test_each_annotation_works_without_the_other():
    assert build("500ms") == (0.5, None)
    assert build(attempt="2s") == (None, 2)
    assert build("1m", "2s") == (60, 2)


def test_zero_switches_a_time_out_off():
    assert build("0", "0s") == (0, 0)
    assert build("0", "2s") == (0, 2)


@pytest.mark.parametrize(
    ("texts", "text"),
    [
        (("soon", None), "annotation request-timeout: 'soon' is not a duration"),
        ((None, "-1s"), "annotation backend-request-timeout: '-1s' is not a duration"),
        (("1s", "2s"), "annotation backend-request-timeout: '2s' is longer than request-timeout"),
    ],
)
def test_a_bad_annotation_is_an_error_that_names_it(texts, text):
    with pytest.raises(ConfigurationError) as caught:
        build(*texts)
    assert text in str(caught.value)


def test_a_rule_has_durations_of_the_gateway_api():
    assert build_filter(request="1h30m", backendRequest="500ms") == (5400, 0.5)
    assert build_filter(request="10s") == (10, None)
    assert build_filter(backendRequest="1m2s3ms") == (None, 62.003)
    assert build_filter(request="0s", backendRequest="10s") == (0, 10)
    assert build_filter() == (None, None)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"request": "10"}, "timeouts: request: '10' is not a duration"),
        ({"request": ""}, "timeouts: request: '' is not a duration"),
        ({"backendRequest": "1.5s"}, "timeouts: backendRequest: '1.5s' is not a duration"),
        ({"request": "1s", "backendRequest": "2s"}, "timeouts: backendRequest is longer than request"),
        ({"request": 10}, "timeouts: request: "),
        ({"requests": "10s"}, "timeouts: requests: unknown field"),
    ],
)
def test_a_bad_field_is_an_error_that_names_it(value, text):
    with pytest.raises(ConfigurationError) as caught:
        build_filter(**value)
    assert text in str(caught.value)


def test_it_explains_how_long_a_request_may_take_and_refuses_none():
    settings = msgspec.to_builtins(BUILDER.build_settings({"request-timeout": "90s"}, SERVICE))
    verdict = BUILDER.explain(settings, None)
    assert (verdict.is_admitted, verdict.reasons) == (True, ("the request may take 90 s",))
    settings = msgspec.to_builtins(BUILDER.build_settings({"request-timeout": "0"}, SERVICE))
    assert BUILDER.explain(settings, None).reasons == ("the request may take any time",)


@given(st.dictionaries(st.sampled_from(["request", "backendRequest", "other"]), st.text(max_size=9) | st.integers()))
def test_whatever_a_rule_says_is_what_the_proxy_gets_or_an_error(value):
    with contextlib.suppress(ConfigurationError):
        assert all(seconds is None or seconds >= 0 for seconds in build_filter(**value))
