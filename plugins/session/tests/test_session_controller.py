"""Annotations or the field of a rule in, sessions or an error out."""

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from maesh_session import SessionSettings
from maesh_session.controller import SessionBuilder
from maesh_session.settings import ServiceSession

from maesh_core.plugin import ConfigurationError, FilterRequest, ObjectKey, PortNode, ServiceNode

SERVICE = ServiceNode(key=ObjectKey("shop", "cart"), traffic_type="http")


def send(built):
    """Return what the proxy would get."""
    return built and msgspec.convert(msgspec.json.decode(msgspec.json.encode(built)), ServiceSession)


def build(annotations, *, secret="", service=SERVICE):
    named = {f"session-{name}": text for name, text in annotations.items()}
    return send(SessionBuilder(SessionSettings(secret=secret)).build_settings(named, service))


def build_rule(value, *, rule="shop/cart:80/rule/one", secret=""):
    request = FilterRequest(name="sessionPersistence", value=value, matches=(), port=PortNode(number=80), rule=rule)
    return send(SessionBuilder(SessionSettings(secret=secret)).build_filter([request], SERVICE))


def test_a_service_without_the_annotations_has_no_sessions():
    assert build({}) is None


def test_a_cookie_a_header_or_both_have_the_values():
    found = build({"cookie": "shop"})
    assert (found.cookie, found.header, found.path) == ("shop", "", "/")
    assert (found.lifetime_s, found.idle_s, found.is_permanent) == (0, 0, False)
    assert build({"header": "X-Session"}).header == "X-Session"
    both = build({"cookie": "shop", "header": "X-Session", "path": "/a", "lifetime": "8h", "idle-timeout": "1m"})
    assert (both.cookie, both.header, both.path, both.lifetime_s, both.idle_s) == ("shop", "X-Session", "/a", 28800, 60)


def test_a_permanent_cookie_has_a_lifetime():
    assert build({"cookie": "shop", "permanent": "true", "lifetime": "1h"}).is_permanent


@pytest.mark.parametrize(
    ("annotations", "text"),
    [
        ({"cookie": "a b"}, "annotation session-cookie: 'a b' is not a name"),
        ({"cookie": ""}, "annotation session-cookie: '' is not a name"),
        ({"cookie": "a;b"}, "annotation session-cookie"),
        ({"cookie": "a" * 257}, "annotation session-cookie"),
        ({"header": "Content-Length"}, "annotation session-header: 'Content-Length' is a header that the mesh itself"),
        ({"header": "Set-Cookie"}, "annotation session-header: 'Set-Cookie' cannot have values of sessions"),
        ({"header": "a:b"}, "annotation session-header: 'a:b' is not a name"),
        ({"header": "X-A", "path": "/"}, "annotation session-path: '/' needs session-cookie"),
        ({"header": "X-A", "permanent": "true", "lifetime": "1h"}, "session-permanent: 'true' needs session-cookie"),
        ({"lifetime": "1h"}, "annotation session-lifetime: '1h' needs session-cookie or session-header"),
        ({"cookie": "a", "path": "a"}, "annotation session-path: 'a' is not a path"),
        ({"cookie": "a", "path": "/; Domain=example"}, "annotation session-path"),
        ({"cookie": "a", "path": "/\r\nX-A: b"}, "annotation session-path"),
        ({"cookie": "a", "lifetime": "0"}, "annotation session-lifetime: '0' is not a duration above 0"),
        ({"cookie": "a", "idle-timeout": "soon"}, "annotation session-idle-timeout: 'soon' is not a duration"),
        ({"cookie": "a", "permanent": "true"}, "annotation session-permanent: 'true' needs session-lifetime"),
        ({"cookie": "a", "permanent": "maybe"}, "annotation session-permanent: 'maybe' is not true or false"),
    ],
)
def test_a_bad_annotation_is_an_error_that_names_it(annotations, text):
    with pytest.raises(ConfigurationError) as caught:
        build(annotations)
    assert text in str(caught.value)


# --- rules


def test_a_rule_has_a_cookie_with_a_name_of_its_own_unless_it_is_written():
    found, other = build_rule({}), build_rule({}, rule="shop/cart:80/rule/two")
    assert found.cookie.startswith("maesh-")
    assert found.cookie != other.cookie
    assert build_rule({"type": "Cookie", "cookie": {"name": "shop", "path": "/a"}}).cookie == "shop"
    assert build_rule({"sessionName": "shop"}).cookie == "shop"
    assert build_rule({"type": "Header", "header": {"name": "X-Session"}}).header == "X-Session"
    assert build_rule({"type": "Header", "sessionName": "X-Session"}).header == "X-Session"


def test_a_rule_has_time_outs_and_the_lifetime_of_its_cookie():
    value = {"absoluteTimeout": "1h", "idleTimeout": "10m", "cookie": {"lifetimeType": "Permanent"}}
    found = build_rule(value)
    assert (found.lifetime_s, found.idle_s, found.is_permanent) == (3600, 600, True)
    assert not build_rule({"absoluteTimeout": "1h", "cookie": {"lifetimeType": "Session"}}).is_permanent


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"type": "Ip"}, "sessionPersistence: type"),
        ({"type": "Header"}, "sessionPersistence: name: '' is not a name"),
        ({"type": "Header", "header": {}}, "sessionPersistence: name: '' is not a name"),
        ({"type": "Header", "cookie": {"name": "a"}}, "type Header has the field of the other type"),
        ({"type": "Cookie", "header": {"name": "a"}}, "type Cookie has the field of the other type"),
        ({"type": "Header", "header": {"name": "Cookie"}}, "name: 'Cookie' cannot have values"),
        ({"cookie": {"name": ""}}, "name: '' is not a name"),
        ({"cookie": {"path": "a;b"}}, "cookie.path: 'a;b' is not a path"),
        ({"cookie": {"lifetimeType": "Permanent"}}, "lifetimeType Permanent needs absoluteTimeout"),
        ({"absoluteTimeout": "1.5h"}, "absoluteTimeout: '1.5h' is not a duration"),
        ({"cokie": {}}, "sessionPersistence: cokie: unknown field"),
    ],
)
def test_a_bad_field_of_a_rule_is_an_error_that_names_it(value, text):
    with pytest.raises(ConfigurationError) as caught:
        build_rule(value)
    assert text in str(caught.value)


# --- keys


def test_every_rule_every_service_and_every_secret_has_a_key_of_its_own():
    other = ServiceNode(key=ObjectKey("shop", "other"), traffic_type="http")
    keys = [
        build_rule({}).key,
        build_rule({}, rule="shop/cart:80/rule/two").key,
        build_rule({}, rule="").key,
        build_rule({}, secret="a").key,
        build({"cookie": "a"}).key,
        build({"cookie": "a"}, secret="a").key,
        build({"cookie": "a"}, service=other).key,
    ]
    assert len(set(keys)) == len(keys)
    assert build_rule({}).key == keys[0]


def test_it_explains_how_sessions_are_recognized_and_refuses_none():
    settings = msgspec.to_builtins(build({"cookie": "shop"}))
    verdict = SessionBuilder(SessionSettings()).explain(settings, None)
    assert (verdict.is_admitted, verdict.reasons) == (True, ("sessions by the cookie shop",))


NAMES = st.sampled_from(["cookie", "header", "path", "lifetime", "idle-timeout", "permanent"])


@given(st.dictionaries(NAMES, st.text(max_size=9) | st.sampled_from(["/", "true", "1h"]), min_size=1))
def test_whatever_is_written_there_is_what_the_proxy_gets_or_an_error(annotations):
    with contextlib.suppress(ConfigurationError):
        found = build(annotations)
        assert found.cookie or found.header


def test_without_a_secret_the_first_session_logs_one_warning(caplog):
    builder = SessionBuilder(SessionSettings())
    builder.build_settings({}, SERVICE)
    assert not caplog.records
    for _ in range(2):
        builder.build_settings({"session-cookie": "a"}, SERVICE)
    assert [each.getMessage() for each in caplog.records] == [
        "session.secret is not set: clients can compute values of sessions and choose their server"
    ]


def test_with_a_secret_nothing_is_logged(caplog):
    SessionBuilder(SessionSettings(secret="s")).build_settings({"session-cookie": "a"}, SERVICE)
    assert not caplog.records
