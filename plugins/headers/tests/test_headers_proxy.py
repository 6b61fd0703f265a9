"""Messages in, changed headers out."""

import pytest
from maesh_headers.proxy import HeadersFactory
from maesh_headers.settings import HeaderChange, HeaderChanges

from maesh_core.plugin import Middleware
from maesh_testing import FakeExchange


def build(request=(), response=()):
    settings = HeaderChanges(
        request=tuple(HeaderChange(action=action, name=name, value=value) for action, name, value in request),
        response=tuple(HeaderChange(action=action, name=name, value=value) for action, name, value in response),
    )
    return HeadersFactory().build_middleware(settings, "shop/cart")


ALL = (("set", "A", "1"), ("add", "B", "2"), ("remove", "C", ""))


def test_requests_get_their_changes():
    exchange = FakeExchange(headers={b"a": b"0", b"B": b"0", b"C": b"0", b"D": b"0"})
    assert build(request=ALL).on_request(exchange) is None
    assert exchange.request_headers.items() == [(b"B", b"0"), (b"D", b"0"), (b"A", b"1"), (b"B", b"2")]
    assert exchange.client_headers.get(b"a") == b"0"


def test_responses_get_their_changes_and_no_further_attempt():
    exchange = FakeExchange(status=200)
    exchange.response_headers.add(b"c", b"0")
    exchange.response_headers.add(b"b", b"0")
    assert build(response=ALL).on_response(exchange) is None
    assert exchange.response_headers.items() == [(b"b", b"0"), (b"A", b"1"), (b"B", b"2")]


def test_changes_of_both_are_made_on_each():
    exchange = FakeExchange(status=200)
    middleware = build(request=[("set", "A", "1")], response=[("set", "B", "2")])
    middleware.on_request(exchange)
    middleware.on_response(exchange)
    assert (exchange.request_headers.items(), exchange.response_headers.items()) == ([(b"A", b"1")], [(b"B", b"2")])


def test_a_message_without_changes_is_not_looked_at():
    assert type(build(request=ALL)).on_response is Middleware.on_response
    assert type(build(response=ALL)).on_request is Middleware.on_request


@pytest.mark.parametrize(("name", "value"), [("Content-Length", "0"), ("A", "1\r\nB: 2"), ("A\r\nB", "1")])
def test_a_change_that_no_controller_sends_fails_and_is_not_made(name, value):
    with pytest.raises(ValueError):
        build(request=[("set", name, value)]).on_request(FakeExchange())
