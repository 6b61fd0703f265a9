"""The receiver's half of a tunnel, scripted: how it ends when it is retired."""

import asyncio

import pytest

from maesh_core.proxy.http.http2 import frames as h2
from maesh_core.proxy.tunnel.incoming import IncomingConnection
from maesh_core.proxy.tunnel.limits import CLOSE_LIMIT_S
from maesh_core.settings import ProxySettings
from maesh_testing import FakeNode

from .scripted import Scripted

OPEN = ((b":method", b"CONNECT"), (b":authority", b"10.1.0.1:80"), (b"maesh-protocol", b"tcp"))


@pytest.fixture
async def receiver():
    node = FakeNode(settings=ProxySettings(tunnel_timeout=100))
    scripted = Scripted(node, "incoming").start()
    scripted.rules.gate = asyncio.Event()
    yield scripted
    scripted.connection.end("")
    node.close()
    await asyncio.sleep(0)


async def test_a_retired_connection_names_the_last_stream_and_refuses_later_ones(receiver):
    receiver.feed(receiver.headers(1, *OPEN))
    receiver.connection.retire()
    receiver.feed(receiver.headers(3, *OPEN))
    goaway, reset = receiver.take()
    assert (goaway[0], int.from_bytes(goaway[3][:4], "big")) == (h2.GOAWAY, 1)
    assert (reset[0], reset[2], reset[3]) == (h2.RST_STREAM, 3, h2.REFUSED_STREAM.to_bytes(4, "big"))
    assert list(receiver.connection.streams) == [1]


async def test_a_retired_connection_waits_for_the_sender_to_end_it(receiver):
    now = receiver.environment.clock.now
    receiver.connection.retire()
    receiver.connection.check(now + CLOSE_LIMIT_S)
    assert not receiver.connection.is_ended
    receiver.connection.check(now + CLOSE_LIMIT_S + 1)
    assert receiver.channel.is_closed


async def test_old_streams_of_a_retired_connection_end_after_the_tunnel_timeout(receiver):
    receiver.feed(receiver.headers(1, *OPEN))
    receiver.connection.retire()
    now = receiver.environment.clock.now
    for waited_s in (10, 20, 30, 40, 50, 60, 70, 80, 90, 100):
        receiver.connection.received_at = now + waited_s
        receiver.connection.check(now + waited_s)
    assert not receiver.connection.is_ended
    receiver.connection.is_acknowledged = True
    receiver.connection.received_at = now + 101
    receiver.connection.check(now + 101)
    assert receiver.channel.is_closed


async def test_a_connection_whose_certificate_has_ended_opens_nothing_whatever_else_its_node_has_shown(receiver):
    receiver.connection.valid_until = 1000.0
    newer = IncomingConnection(receiver.receiver, receiver.connection.node, 2000.0)
    receiver.receiver.now = lambda: 999.9
    receiver.feed(receiver.headers(1, *OPEN))
    assert receiver.connection.streams[1].task is not None
    receiver.receiver.now = lambda: 1000.0
    receiver.feed(receiver.headers(3, *OPEN))
    (answer,) = [receiver.decode(payload) for kind, _, stream_id, payload in receiver.take() if kind == h2.HEADERS]
    assert answer == {
        b":status": b"503",
        b"maesh-reason": b"the certificate of the node that sends has ended",
    }
    assert receiver.connection.streams[3].task is None, "the rules are not asked"
    assert not newer.is_expired


async def test_streams_with_even_numbers_end_the_connection(receiver):
    receiver.feed(receiver.headers(2, *OPEN))
    assert receiver.read_error() == h2.PROTOCOL_ERROR


async def test_numbers_of_streams_only_rise(receiver):
    receiver.feed(receiver.headers(5, *OPEN))
    receiver.feed(receiver.headers(3, *OPEN))
    assert receiver.read_error() == h2.STREAM_CLOSED


async def test_an_open_that_ends_at_once_is_reset(receiver):
    receiver.feed(receiver.headers(1, *OPEN, is_end=True))
    assert receiver.read_resets() == {1: h2.PROTOCOL_ERROR}
