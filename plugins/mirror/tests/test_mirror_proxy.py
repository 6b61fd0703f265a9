"""Requests and bodies in, copies out."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from maesh_mirror.proxy import COLLECTED_LIMIT_BYTES, MirrorFactory
from maesh_mirror.settings import Mirror, Mirrors

from maesh_testing import FakeExchange

PORT = "test/app:80"


def build(*shares, body_limit=10, factory=None):
    keys = [{PORT: f"{PORT}/side/m{index}"} for index in range(len(shares))]
    mirrors = tuple(Mirror(name="m", share=share, keys=each) for share, each in zip(shares, keys, strict=True))
    return (factory or MirrorFactory()).build_middleware(Mirrors(mirrors=mirrors, body_limit=body_limit), "test/app")


def read_skipped(factory):
    (family,) = factory.collect_metrics()
    return dict(family.samples)


def feed(middleware, *pieces, is_complete=True, headers=None):
    """Let a request with a body pass; return its exchange."""
    exchange = FakeExchange(b"POST", has_body=True, headers=headers)
    middleware.on_request(exchange)
    assert not exchange.copies
    tap = middleware.on_request_body(exchange)
    if tap is not None:
        for piece in pieces:
            tap.observe(piece)
        tap.end(is_complete=is_complete)
    middleware.on_finished(exchange)
    return exchange


def test_a_request_without_a_body_is_copied_to_each_mirror():
    exchange = FakeExchange()
    build(1, 1).on_request(exchange)
    assert exchange.copies == [(f"{PORT}/side/m0", b""), (f"{PORT}/side/m1", b"")]


def test_the_ports_of_a_service_have_side_services_of_their_own():
    exchange = FakeExchange(service="test/app:81")
    build(1).on_request(exchange)
    assert not exchange.copies


@pytest.mark.parametrize(("drawn", "is_copied"), [(0.0, True), (0.0999, True), (0.1, False), (0.9, False)])
def test_a_share_of_the_requests_is_copied(monkeypatch, drawn, is_copied):
    monkeypatch.setattr(random, "random", lambda: drawn)
    exchange, middleware = FakeExchange(), build(0.1)
    middleware.on_request(exchange)
    assert bool(exchange.copies) is is_copied
    assert middleware.skips_request(exchange) is not is_copied


def test_what_skips_request_has_drawn_holds_for_the_request_that_follows(monkeypatch):
    drawn = iter([0.05, 0.5])
    monkeypatch.setattr(random, "random", lambda: next(drawn))
    middleware, exchange = build(0.1), FakeExchange()
    assert not middleware.skips_request(exchange)
    middleware.on_request(exchange)
    assert len(exchange.copies) == 1
    middleware.on_request(exchange)
    assert len(exchange.copies) == 1


def test_mirrors_draw_independently(monkeypatch):
    drawn = iter([0.5, 0.05])
    monkeypatch.setattr(random, "random", lambda: next(drawn))
    exchange = FakeExchange()
    build(0.1, 0.1).on_request(exchange)
    assert exchange.copies == [(f"{PORT}/side/m1", b"")]


@given(st.lists(st.binary(max_size=4), max_size=6))
def test_a_body_within_the_limit_is_copied_whole_and_a_larger_one_is_not(pieces):
    factory = MirrorFactory()
    exchange, body = feed(build(1, factory=factory), *pieces), b"".join(pieces)
    assert exchange.copies == ([(f"{PORT}/side/m0", body)] if len(body) <= 10 else [])
    assert read_skipped(factory) == ({} if len(body) <= 10 else {(PORT, "body-too-large"): 1})
    assert factory._collecting.bytes == 0


def test_a_declared_length_above_the_limit_is_not_collected():
    factory = MirrorFactory()
    middleware, exchange = build(1, factory=factory), FakeExchange(has_body=True, headers={b"Content-Length": b"11"})
    middleware.on_request(exchange)
    assert middleware.on_request_body(exchange) is None
    assert read_skipped(factory) == {(PORT, "body-too-large"): 1}


def test_a_body_that_ends_early_is_not_copied():
    factory = MirrorFactory()
    assert not feed(build(1, factory=factory), b"abc", is_complete=False).copies
    assert read_skipped(factory) == {(PORT, "body-incomplete"): 1}
    assert factory._collecting.bytes == 0


def test_bodies_that_are_collected_share_one_limit():
    factory = MirrorFactory()
    middleware = build(1, factory=factory, body_limit=COLLECTED_LIMIT_BYTES)
    first, other = (FakeExchange(has_body=True) for _ in range(2))
    for exchange in (first, other):
        middleware.on_request(exchange)
    tap, late = middleware.on_request_body(first), middleware.on_request_body(other)
    tap.observe(bytes(COLLECTED_LIMIT_BYTES))
    late.observe(b"x")
    late.observe(b"y")
    for each in (tap, late):
        each.end(is_complete=True)
    assert (len(first.copies), len(other.copies)) == (1, 0)
    assert read_skipped(factory) == {(PORT, "no-memory"): 1}
    assert factory._collecting.bytes == 0


def test_a_request_that_is_answered_before_its_body_is_forgotten():
    middleware, exchange = build(1), FakeExchange(has_body=True)
    middleware.on_request(exchange)
    middleware.on_finished(exchange)
    assert not middleware._waiting
    assert middleware.on_request_body(exchange) is None
