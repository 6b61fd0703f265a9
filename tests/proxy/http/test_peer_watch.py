"""Peers that leave while nobody reads their connections, over real sockets."""

import asyncio
import socket
import struct

import pytest

from maesh_core.proxy.http.peer_watch import EpollPeerWatch


class Paused(asyncio.Protocol):
    """A connection that is not read."""

    def __init__(self):
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport
        transport.pause_reading()

    def connection_lost(self, exc):
        self.lost.set_result(None)


@pytest.fixture
async def pair():
    """Return a client's socket, the paused transport at its other end, and what watches it."""
    made = asyncio.get_running_loop().create_future()
    loop = asyncio.get_running_loop()

    def accept():
        protocol = Paused()
        loop.call_soon(made.set_result, protocol)
        return protocol

    server = await loop.create_server(accept, "127.0.0.1", 0)
    client = socket.create_connection(server.sockets[0].getsockname())
    protocol = await made
    peer_watch = EpollPeerWatch()
    yield client, protocol.transport, peer_watch
    peer_watch.close()
    client.close()
    protocol.transport.abort()
    await protocol.lost
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("is_reset", [False, True])
@pytest.mark.parametrize("has_left_before", [False, True])
async def test_a_peer_that_leaves_unread_is_noticed(pair, is_reset, has_left_before):
    client, transport, peer_watch = pair
    noticed = asyncio.get_running_loop().create_future()
    client.send(b"unread")
    if not has_left_before:
        peer_watch.watch(transport, noticed.set_result)
    if is_reset:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    else:
        client.shutdown(socket.SHUT_WR)
    if has_left_before:
        peer_watch.watch(transport, noticed.set_result)
    assert await noticed is is_reset


async def test_a_transport_that_is_forgotten_is_not_watched(pair):
    client, transport, peer_watch = pair
    noticed = []
    peer_watch.watch(transport, noticed.append)
    peer_watch.watch(transport, noticed.append)
    peer_watch.forget(transport)
    peer_watch.forget(transport)
    client.shutdown(socket.SHUT_WR)
    again = asyncio.get_running_loop().create_future()
    peer_watch.watch(transport, again.set_result)
    assert await again is False
    assert not noticed


async def test_a_transport_without_a_socket_is_left_alone():
    peer_watch = EpollPeerWatch()
    peer_watch.watch(asyncio.Transport(), print)
    peer_watch.forget(asyncio.Transport())
    peer_watch.close()
