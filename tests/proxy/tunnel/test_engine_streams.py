"""Streams between two engines carry bytes, ends and resets like a connection, and wait for their own reader only."""

import asyncio
import random
import socket
import struct

import pytest

from maesh_core.proxy.http.transports import reset as reset_transport
from maesh_core.proxy.tunnel.limits import STREAM_WINDOW_BYTES

from .conftest import wait_until
from .pod_sockets import loop, receive


def reset(sock):
    """Close a socket with a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


async def test_bytes_go_both_ways(open_stream):
    protocol, accepted = await open_stream()
    protocol.transport.write(b"question")
    assert await receive(accepted, 8) == b"question"
    await loop().sock_sendall(accepted, b"answer")
    await wait_until(lambda: protocol.data == b"answer")


@pytest.mark.parametrize("size", [1, 16384, 65536, 65537, 262144, 3_000_000])
async def test_bodies_of_any_size_are_the_same_bytes(open_stream, size):
    protocol, accepted = await open_stream()
    up, down = random.Random(size).randbytes(size), random.Random(-size).randbytes(size)
    protocol.transport.write(up)
    sending = asyncio.create_task(loop().sock_sendall(accepted, down))
    assert await receive(accepted, size) == up
    await sending
    await wait_until(lambda: len(protocol.data) == size)
    assert protocol.data == down


async def test_streams_beside_each_other_keep_their_bytes_apart(open_stream):
    pairs = [await open_stream() for _ in range(20)]
    bodies = [bytes([number + 1]) * (50_000 + 7919 * number) for number in range(20)]
    sending = [
        asyncio.create_task(loop().sock_sendall(accepted, body))
        for (_, accepted), body in zip(pairs, bodies, strict=True)
    ]
    for (protocol, _), body in zip(pairs, bodies, strict=True):
        for at in range(0, len(body), 1000):
            protocol.transport.write(body[at : at + 1000])
    for (_, accepted), body in zip(pairs, bodies, strict=True):
        assert await receive(accepted, len(body)) == body
    await asyncio.gather(*sending)
    for (protocol, _), body in zip(pairs, bodies, strict=True):
        await wait_until(lambda protocol=protocol, body=body: len(protocol.data) == len(body))
        assert protocol.data == body


# --- ends and resets


async def test_the_end_of_one_side_is_forwarded_alone(open_stream):
    protocol, accepted = await open_stream()
    protocol.keeps_open = True
    protocol.transport.write(b"last")
    protocol.transport.write_eof()
    assert await receive(accepted, 100) == b"last"
    await loop().sock_sendall(accepted, b"still here")
    accepted.shutdown(socket.SHUT_WR)
    await wait_until(lambda: protocol.has_ended)
    assert protocol.data == b"still here"
    await wait_until(lambda: protocol.lost == [None])


async def test_a_server_that_ends_first_can_still_be_written_to(sender, receiver, open_stream):
    protocol, accepted = await open_stream()
    protocol.keeps_open = True
    accepted.shutdown(socket.SHUT_WR)
    await wait_until(lambda: protocol.has_ended)
    protocol.transport.write(b"late")
    assert await receive(accepted, 4) == b"late"
    protocol.transport.write_eof()
    await wait_until(lambda: protocol.lost == [None])
    await wait_until(lambda: receiver.count("tunnel_streams", role="incoming") == 0)
    assert sender.count("tunnel_streams", role="outgoing") == 0


async def test_a_protocol_that_does_not_keep_its_side_open_closes_it(open_stream):
    protocol, accepted = await open_stream()
    await loop().sock_sendall(accepted, b"until the end")
    accepted.shutdown(socket.SHUT_WR)
    await wait_until(lambda: protocol.lost == [None])
    assert protocol.data == b"until the end"
    assert await receive(accepted, 1) == b""


async def test_a_reset_of_the_server_is_a_reset(open_stream):
    protocol, accepted = await open_stream()
    await loop().sock_sendall(accepted, b"cut")
    await wait_until(lambda: protocol.data == b"cut")
    reset(accepted)
    await wait_until(lambda: protocol.lost)
    assert isinstance(protocol.lost[0], ConnectionResetError)
    assert not protocol.has_ended


async def test_an_answer_before_a_reset_arrives(open_stream):
    protocol, accepted = await open_stream()
    protocol.transport.write(bytes(100_000))
    await receive(accepted, 1)
    await loop().sock_sendall(accepted, b"413 too large")
    accepted.close()  # with unread bytes, so that the kernel resets
    await wait_until(lambda: protocol.lost)
    assert protocol.data == b"413 too large"
    assert protocol.lost[0] is not None


async def test_a_stream_that_is_cut_resets_the_server(open_stream):
    protocol, accepted = await open_stream()
    protocol.transport.write(b"half a mess")
    assert await receive(accepted, 11) == b"half a mess"
    reset_transport(protocol.transport)
    with pytest.raises(ConnectionResetError):
        await receive(accepted, 1)
    assert protocol.lost == [None]


async def test_a_stream_that_is_aborted_without_unsent_bytes_ends_like_a_closed_socket(open_stream):
    protocol, accepted = await open_stream()
    protocol.transport.write(b"done")
    protocol.transport.abort()
    assert await receive(accepted, 100) == b"done"
    await wait_until(lambda: protocol.lost == [None])


async def test_closing_sends_everything_first(open_stream):
    protocol, accepted = await open_stream()
    body = random.Random(1).randbytes(2_000_000)
    protocol.transport.write(body)
    protocol.transport.close()
    assert protocol.transport.is_closing()
    assert await receive(accepted, len(body) + 1) == body
    await wait_until(lambda: protocol.lost == [None])


# --- back-pressure


async def test_a_server_that_does_not_read_stops_its_stream_only(open_stream):
    slow, slow_accepted = await open_stream()
    fast, fast_accepted = await open_stream()
    slow.transport.write(bytes(8_000_000))
    assert slow.paused == 1
    body = random.Random(2).randbytes(4_000_000)
    fast.transport.write(body)
    assert await receive(fast_accepted, len(body)) == body
    assert slow.transport.get_write_buffer_size() > 0
    assert len(await receive(slow_accepted, 8_000_000)) == 8_000_000
    await wait_until(lambda: slow.resumed == 1)


async def test_a_protocol_that_does_not_read_stops_its_stream_only(receiver, open_stream):
    slow, slow_accepted = await open_stream()
    fast, fast_accepted = await open_stream()
    slow.transport.pause_reading()
    body = random.Random(3).randbytes(8_000_000)
    sending = asyncio.create_task(loop().sock_sendall(slow_accepted, body))
    await loop().sock_sendall(fast_accepted, bytes(3_000_000))
    await wait_until(lambda: len(fast.data) == 3_000_000)
    assert not slow.data
    assert not sending.done()
    slow.transport.resume_reading()
    await sending
    await wait_until(lambda: len(slow.data) == len(body))
    assert slow.data == body


async def test_what_was_kept_is_reported_before_the_end(open_stream):
    protocol, accepted = await open_stream()
    protocol.transport.pause_reading()
    await loop().sock_sendall(accepted, b"all of it")
    accepted.shutdown(socket.SHUT_WR)
    await asyncio.sleep(0.05)
    assert not protocol.data
    assert not protocol.has_ended
    protocol.transport.resume_reading()
    await wait_until(lambda: protocol.lost == [None])
    assert protocol.data == b"all of it"


async def test_an_error_of_one_protocol_ends_only_its_stream(open_stream):
    broken, broken_accepted = await open_stream()
    fine, fine_accepted = await open_stream()

    def fail(data):
        raise ZeroDivisionError

    broken.data_received = fail
    await loop().sock_sendall(broken_accepted, b"x")
    await loop().sock_sendall(fine_accepted, b"y")
    await wait_until(lambda: fine.data == b"y")
    await wait_until(lambda: broken.lost)
    with pytest.raises(ConnectionResetError):
        await receive(broken_accepted, 1)


async def test_the_last_bytes_of_a_closed_stream_wait_for_a_slow_pod(receiver, open_stream):
    protocol, accepted = await open_stream()
    fill_pod(protocol)
    await wait_until(lambda: protocol.transport.get_write_buffer_size() == 0 or protocol.paused)
    protocol.transport.write_eof()
    size = protocol.sent_bytes
    protocol.transport.close()
    assert len(await receive(accepted, size + 1)) == size
    await wait_until(lambda: receiver.count("tunnel_streams", role="incoming") == 0)
    assert not receiver.tunnels._receiver.closing


def fill_pod(protocol):
    """Write more than the pod's kernel buffers keep."""
    protocol.sent_bytes = 40 * STREAM_WINDOW_BYTES
    protocol.transport.write(bytes(protocol.sent_bytes))
