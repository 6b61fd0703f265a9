"""The proxy's half of the stamp plugin: settings in, a middleware that sets headers out."""

import pytest
from maesh_stamp import HeaderSettings
from maesh_stamp.proxy import StampFactory

from maesh_testing import FakeExchange


@pytest.fixture
def stamp():
    return StampFactory().build_middleware(HeaderSettings(name="X-Team", value="payments"), "shop/cart:80")


def test_request_carries_the_stamp_in_place_of_what_the_client_sent(stamp):
    exchange = FakeExchange(headers={b"x-team": b"forged"})
    assert stamp.on_request(exchange) is None
    assert exchange.request_headers.get_all(b"X-Team") == [b"payments"]
    assert exchange.response_headers.lines == []


def test_response_carries_the_stamp(stamp):
    exchange = FakeExchange()
    assert stamp.on_response(exchange) is None
    assert exchange.response_headers.get_all(b"X-Team") == [b"payments"]


def test_middleware_shows_what_it_stamps(stamp):
    assert "X-Team" in repr(stamp)


def test_stamp_is_there_in_a_real_mesh(start_mesh):
    answer = start_mesh("--stamp", annotations={"stamp": "X-Team: payments"}).get(
        "/headers", headers={"X-Team": "forged"}
    )
    assert answer.headers["X-Team"] == answer.json["x-team"] == "payments"


def test_the_plugins_setting_comes_before_the_name(start_mesh):
    mesh = start_mesh("--stamp", "--set", "stamp.prefix=X-Maesh-", annotations={"stamp": "Team: payments"})
    assert mesh.get().headers["X-Maesh-Team"] == "payments"
