"""The proxy's half of the stamp plugin: settings in, a middleware that sets headers out."""

import importlib

import msgspec
import pytest


class FakeHeaders:
    def __init__(self, headers):
        self.headers = dict(headers)

    def set(self, name, value):
        self.headers[name.lower()] = value


class FakeExchange:
    def __init__(self):
        self.request_headers = FakeHeaders({b"x-team": b"forged"})
        self.response_headers = FakeHeaders({})


@pytest.fixture
def stamp():
    proxy = importlib.import_module("maesh_stamp.proxy")
    half = proxy.ProxyHalf(importlib.import_module("maesh_stamp").StampSettings())
    (factory,) = half.maesh_middleware_factories()
    settings = msgspec.convert({"name": "X-Team", "value": "payments"}, factory.settings_type)
    return factory.build_middleware(settings, "shop/cart:80")


def test_request_carries_the_stamp_in_place_of_what_the_client_sent(stamp):
    exchange = FakeExchange()
    assert stamp.on_request(exchange) is None
    assert exchange.request_headers.headers == {b"x-team": b"payments"}
    assert exchange.response_headers.headers == {}


def test_response_carries_the_stamp(stamp):
    exchange = FakeExchange()
    assert stamp.on_response(exchange) is None
    assert exchange.response_headers.headers == {b"x-team": b"payments"}


def test_middleware_shows_what_it_stamps(stamp):
    assert "X-Team" in repr(stamp)
