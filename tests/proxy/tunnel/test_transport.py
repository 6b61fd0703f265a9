"""A stream as a transport of asyncio: pausing, ends, and what a protocol may do at any moment."""

import asyncio

import pytest

from maesh_core.plugin_system.transports import Delivery
from maesh_core.proxy.http.http2 import frames as h2
from maesh_core.proxy.http.transports import is_broken, limit_write_buffer, read_unread, reset
from maesh_testing import FakeNode

from .conftest import Recorder
from .scripted import Opening, Scripted, frame

DELIVERY = Delivery(address="10.1.0.1", port=80, service="ns/web:80")


@pytest.fixture
async def sender():
    node = FakeNode()
    yield Scripted(node, "outgoing").start()
    node.close()


@pytest.fixture
async def protocol(sender):
    protocol = Recorder()
    stream = sender.connection.open(DELIVERY, Opening(protocol))
    sender.feed(sender.headers(stream.stream_id, (b":status", b"200")))
    sender.take()
    return protocol


def kinds(frames):
    return [(kind, flags) for kind, flags, _, _ in frames]


async def test_it_names_the_server_and_has_no_socket(protocol):
    transport = protocol.transport
    assert transport.get_extra_info("peername") == ("10.1.0.1", 80)
    assert transport.get_extra_info("socket") is None
    assert transport.get_extra_info("ssl_object") is None
    assert transport.get_extra_info("unknown", 1) == 1
    assert not is_broken(transport)
    assert list(read_unread(transport)) == []
    assert transport.can_write_eof()


async def test_writelines_sends_its_pieces_as_one(sender, protocol):
    protocol.transport.writelines([b"a", b"b"])
    assert [each[3] for each in sender.take()] == [b"ab"]


async def test_bytes_that_the_caller_changes_later_are_not_changed(sender, protocol):
    data = bytearray(b"first")
    protocol.transport.write(data)
    data[:] = b"other"
    assert [each[3] for each in sender.take()] == [b"first"]


async def test_the_source_is_paused_and_resumed_at_the_limits(sender, protocol):
    limit_write_buffer(protocol.transport)
    assert protocol.transport.get_write_buffer_limits() == (16384, 65536)
    protocol.transport.write(bytes(262144))
    protocol.transport.write(bytes(65536))
    assert not protocol.paused
    protocol.transport.write(b"x")
    assert protocol.paused == 1
    assert protocol.transport.get_write_buffer_size() == 65537
    sender.feed(h2.render_window_update(1, 49152))
    assert not protocol.resumed
    sender.feed(h2.render_window_update(1, 1))
    assert protocol.resumed == 1
    assert protocol.transport.get_write_buffer_size() == 16384


async def test_eof_follows_what_waits(sender, protocol):
    protocol.transport.write(bytes(262144 + 10))
    protocol.transport.write_eof()
    protocol.transport.write(b"ignored")
    assert not any(flags & h2.END_STREAM for kind, flags in kinds(sender.take()) if kind == h2.DATA)
    sender.feed(h2.render_window_update(1, 10))
    last = sender.take()
    assert kinds(last) == [(h2.DATA, 0), (h2.DATA, h2.END_STREAM)]
    assert last[0][3] == bytes(10)


async def test_closing_says_that_nothing_more_is_read(sender, protocol):
    protocol.transport.close()
    frames = sender.take()
    assert kinds(frames) == [(h2.DATA, h2.END_STREAM), (h2.RST_STREAM, 0)]
    assert frames[1][3] == h2.NO_ERROR.to_bytes(4, "big")
    assert protocol.lost == []
    await asyncio.sleep(0)
    assert protocol.lost == [None]
    protocol.transport.close()
    protocol.transport.abort()
    await asyncio.sleep(0)
    assert protocol.lost == [None]


async def test_a_reset_sends_cancel(sender, protocol):
    reset(protocol.transport)
    assert sender.read_resets() == {1: h2.CANCEL}
    await asyncio.sleep(0)
    assert protocol.lost == [None]


async def test_an_abort_with_unsent_bytes_sends_cancel(sender, protocol):
    protocol.transport.write(bytes(300_000))
    protocol.transport.abort()
    assert sender.read_resets() == {1: h2.CANCEL}


async def test_a_protocol_that_pauses_while_it_gets_kept_data_gets_no_more(sender, protocol):
    protocol.transport.pause_reading()
    for number in range(3):
        sender.feed(frame(h2.DATA, 0, 1, b"%d" % number))

    def pause(data):
        protocol.data += data
        protocol.transport.pause_reading()

    protocol.data_received = pause
    for number in range(3):
        protocol.transport.resume_reading()
        await asyncio.sleep(0)
        assert protocol.data == b"012"[: number + 1]


async def test_data_that_arrives_before_kept_data_was_passed_on_comes_after_it(sender, protocol):
    protocol.transport.pause_reading()
    sender.feed(frame(h2.DATA, 0, 1, b"first"))
    protocol.transport.resume_reading()
    sender.feed(frame(h2.DATA, h2.END_STREAM, 1, b"second"))
    assert not protocol.data
    await asyncio.sleep(0)
    assert protocol.data == b"firstsecond"
    assert protocol.has_ended


async def test_a_reset_while_reading_is_paused_comes_after_kept_data(sender, protocol):
    protocol.transport.pause_reading()
    sender.feed(frame(h2.DATA, 0, 1, b"kept") + h2.render_rst_stream(1, h2.CANCEL))
    await asyncio.sleep(0)
    assert protocol.lost == []
    assert protocol.transport.is_closing()
    protocol.transport.write(b"nobody reads this")
    protocol.transport.resume_reading()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert protocol.data == b"kept"
    assert isinstance(protocol.lost[0], ConnectionResetError)


async def test_a_reset_without_an_error_code_is_a_reset_all_the_same(sender, protocol):
    sender.feed(frame(h2.DATA, 0, 1, b"part") + h2.render_rst_stream(1, h2.NO_ERROR))
    await asyncio.sleep(0)
    assert isinstance(protocol.lost[0], ConnectionResetError)
    assert not protocol.has_ended


async def test_a_protocol_that_was_replaced_gets_no_more(sender, protocol):
    other = Recorder()
    protocol.transport.set_protocol(other)
    assert protocol.transport.get_protocol() is other
    sender.feed(frame(h2.DATA, 0, 1, b"for the other"))
    assert not protocol.data
    assert other.data == b"for the other"


@pytest.mark.parametrize("act", ["close", "abort"])
async def test_a_protocol_may_end_the_stream_when_it_gets_data(sender, protocol, act):
    def end(data):
        getattr(protocol.transport, act)()

    protocol.data_received = end
    sender.feed(frame(h2.DATA, 0, 1, b"a") + frame(h2.DATA, 0, 1, b"b") + frame(h2.DATA, h2.END_STREAM, 1, b"c"))
    await asyncio.sleep(0)
    assert protocol.lost == [None]
    assert not sender.connection.is_ended
    assert not sender.connection.streams


async def test_a_protocol_may_end_the_stream_when_it_is_connected(sender):
    protocol = Recorder()
    protocol.connection_made = lambda transport: transport.abort()
    stream = sender.connection.open(DELIVERY, Opening(protocol))
    sender.feed(sender.headers(stream.stream_id, (b":status", b"200")))
    await asyncio.sleep(0)
    assert protocol.lost == [None]
