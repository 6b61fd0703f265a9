"""Requests in, delays and errors out."""

import asyncio
import random

import pytest
from maesh_fault.proxy import FaultFactory
from maesh_fault.settings import Faults

from maesh_testing import FakeExchange


def build(**settings):
    return FaultFactory().build_middleware(Faults(**settings), "shop/cart")


@pytest.fixture
def draw(monkeypatch):
    """Let the next draws have these results."""

    def set_draws(*results):
        left = list(results)
        monkeypatch.setattr(random, "random", lambda: left.pop(0))
        return left

    return set_draws


def test_without_a_share_every_request_has_the_fault():
    assert build(delay_s=2.0).on_request(FakeExchange()) == 2.0
    answer = build(status=503).on_request(FakeExchange())
    assert (answer.status, answer.reason, answer.grpc_status) == (503, "a fault was injected", None)


def test_a_share_is_drawn_for_each_request(draw):
    draw(0.09, 0.1)
    fault = build(delay_s=2.0, delay_share=0.1)
    assert [fault.on_request(FakeExchange()) for _ in range(2)] == [2.0, None]
    draw(0.09, 0.1)
    fault = build(status=503, abort_share=0.1)
    assert [fault.on_request(FakeExchange()) is not None for _ in range(2)] == [True, False]


def test_a_share_of_nothing_never_has_the_fault(draw):
    draw(0.0, 0.0)
    assert build(delay_s=2.0, delay_share=0.0, status=503, abort_share=0.0).on_request(FakeExchange()) is None


def test_delays_and_errors_are_drawn_independently(draw):
    fault = build(delay_s=2.0, delay_share=0.5, status=503, abort_share=0.5)
    draw(0.9, 0.1)
    assert fault.on_request(FakeExchange()) == 2.0
    draw(0.1, 0.9)
    assert fault.on_request(FakeExchange()).status == 503
    draw(0.9, 0.9)
    assert fault.on_request(FakeExchange()) is None


async def test_a_request_with_both_is_answered_after_its_delay(monkeypatch):
    delays = []

    async def sleep(seconds):
        delays.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    answer = await build(delay_s=2.0, status=503).on_request(FakeExchange())
    assert (answer.status, delays) == (503, [2.0])


def test_a_grpc_status_is_for_grpc_calls_only():
    fault = build(grpc_status=14)
    assert fault.on_request(FakeExchange()) is None
    answer = fault.on_request(FakeExchange(b"POST", is_grpc=True))
    assert (answer.status, answer.grpc_status) == (503, 14)


def test_a_status_is_for_grpc_calls_too():
    assert build(status=500).on_request(FakeExchange(b"POST", is_grpc=True)).status == 500
