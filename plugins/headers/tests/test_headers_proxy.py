"""Messages in, changed headers out."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from maesh_headers.controller import HeadersBuilder
from maesh_headers.proxy import HeadersFactory
from maesh_headers.settings import HeaderChange, HeaderChanges

from maesh_core.plugin import ConfigurationError, Middleware, ObjectKey, ServiceNode
from maesh_testing import FakeExchange


def build(request=(), response=()):
    settings = HeaderChanges(
        request=tuple(HeaderChange(action=action, name=name, value=value) for action, name, value in request),
        response=tuple(HeaderChange(action=action, name=name, value=value) for action, name, value in response),
    )
    return HeadersFactory().build_middleware(settings, "shop/cart")


def change(middleware, exchange):
    """Change the headers of an exchange as the proxy does."""
    requests = middleware.choose_request_changes(exchange)
    responses = middleware.choose_response_changes(exchange)
    if requests is not None:
        exchange.request_headers.apply(requests)
    if responses is not None:
        exchange.response_headers.apply(responses)


ALL = (("set", "A", "1"), ("add", "B", "2"), ("remove", "C", ""))


def test_requests_get_their_changes():
    exchange = FakeExchange(headers={b"a": b"0", b"B": b"0", b"C": b"0", b"D": b"0"})
    change(build(request=ALL), exchange)
    assert exchange.request_headers.items() == [(b"B", b"0"), (b"D", b"0"), (b"A", b"1"), (b"B", b"2")]
    assert exchange.client_headers.get(b"a") == b"0"


def test_responses_get_their_changes():
    exchange = FakeExchange(status=200)
    exchange.response_headers.add(b"c", b"0")
    exchange.response_headers.add(b"b", b"0")
    change(build(response=ALL), exchange)
    assert exchange.response_headers.items() == [(b"b", b"0"), (b"A", b"1"), (b"B", b"2")]


def test_changes_of_both_are_made_on_each():
    exchange = FakeExchange(status=200)
    change(build(request=[("set", "A", "1")], response=[("set", "B", "2")]), exchange)
    assert (exchange.request_headers.items(), exchange.response_headers.items()) == ([(b"A", b"1")], [(b"B", b"2")])


def test_a_message_without_changes_is_not_looked_at():
    requests, responses = build(request=ALL), build(response=ALL)
    assert type(requests).choose_response_changes is Middleware.choose_response_changes
    assert type(responses).choose_request_changes is Middleware.choose_request_changes
    for each in (requests, responses, build(request=ALL, response=ALL)):
        assert type(each).on_request is Middleware.on_request
        assert type(each).on_response is Middleware.on_response


def test_every_message_gets_the_same_prepared_changes():
    middleware = build(request=ALL, response=ALL)
    chosen = {(middleware.choose_request_changes(each), middleware.choose_response_changes(each)) for each in (1, 2)}
    assert len(chosen) == 1


@pytest.mark.parametrize(("name", "value"), [("Content-Length", "0"), ("A", "1\r\nB: 2"), ("A\r\nB", "1")])
def test_a_change_that_no_controller_sends_fails_and_is_not_made(name, value):
    with pytest.raises(ValueError):
        change(build(request=[("set", name, value)]), FakeExchange())


_TEXTS = st.text(alphabet="aA1-_ \t=:;,\r\n\x00\x85\u2028\xe9", max_size=8)
_CHANGES = st.builds(
    lambda action, name, value: f"{action} {name}" if action == "remove" else f"{action} {name}={value}",
    st.sampled_from(["set", "add", "remove"]),
    st.sampled_from(["A", "x-b", "Content-Length", "X_Forwarded_For"]) | _TEXTS,
    _TEXTS,
)


@given(st.lists(_CHANGES, max_size=3))
def test_what_a_controller_accepts_a_proxy_applies_and_no_change_adds_more_than_one_line(changes):
    service = ServiceNode(key=ObjectKey("shop", "cart"), traffic_type="http")
    with contextlib.suppress(ConfigurationError):
        settings = HeadersBuilder().build_settings({"request-headers": "\n".join(changes)}, service)
        exchange = FakeExchange(headers={b"A": b"0", b"Content-Length": b"0"})
        change(HeadersFactory().build_middleware(settings, "shop/cart"), exchange)
        lines = exchange.request_headers.lines
        assert len(lines) <= 2 + len(settings.request)
        assert all(line.endswith(b"\r\n") and not {13, 10, 0} & set(line[:-2]) for line in lines)
        assert (b"Content-Length", b"0") in exchange.request_headers.items()
