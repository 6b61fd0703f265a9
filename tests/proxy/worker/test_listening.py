"""Ports under handlers that behave as asyncio does, and under handlers that fail."""

import asyncio
import resource
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest
import uvloop

from maesh_core.proxy.network.sockets import BACKLOG, open_sockets
from maesh_core.proxy.worker.listening import Listening, close_listening, listen_on

TCP_INFO_BACKLOG = slice(28, 32)
"""Where Linux tells the length of a listening socket's queue (tcpi_sacked)."""


class ServingHandler:
    """Serves with asyncio; fails at the socket number `fail_at`."""

    transport = "TCP"

    def __init__(self, fail_at: int | None = None) -> None:
        self.fail_at = fail_at
        self.sockets: list[socket.socket] = []

    async def open_listener(self, sock: socket.socket, entrypoint: int) -> Any:
        if len(self.sockets) == self.fail_at:
            raise OSError("cannot")
        self.sockets.append(sock)
        return await asyncio.get_running_loop().create_server(asyncio.Protocol, sock=sock)


async def open_listening(handler: ServingHandler, host: str, port: int) -> Listening:
    return await listen_on(handler, open_sockets("TCP", host, port), port)  # type: ignore[arg-type]


def read_backlog(sock: socket.socket) -> int:
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    return int(struct.unpack("=I", info[TCP_INFO_BACKLOG])[0])


def read_granted_backlog() -> int:
    with open("/proc/sys/net/core/somaxconn") as limit:
        return min(BACKLOG, int(limit.read()))


async def test_the_queue_is_as_long_as_was_meant_whatever_the_handler_does(unused_tcp_port: int) -> None:
    handler = ServingHandler()
    opened = await open_listening(handler, "", unused_tcp_port)
    assert [read_backlog(sock) for sock in handler.sockets] == [read_granted_backlog()] * len(opened.sockets)
    await close_listening([opened])
    assert all(sock.fileno() < 0 for sock in handler.sockets)


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")
@pytest.mark.parametrize("fail_at", [0, 1])
async def test_a_port_opens_whole_or_not_at_all(fail_at: int, unused_tcp_port: int) -> None:
    with pytest.raises(OSError, match="cannot"):
        await open_listening(ServingHandler(fail_at), "", unused_tcp_port)
    opened = await open_listening(ServingHandler(), "", unused_tcp_port)
    await close_listening([opened])


@pytest.fixture
def many_files() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def run_rounds() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.usefixtures("many_files")
def test_closing_accepts_a_long_queue_on_either_loop(new_loop: Any, unused_tcp_port: int) -> None:
    """1,500 are more than what either loop accepts in one round, and more rounds than a hurried limit would give."""
    accepted: list[asyncio.BaseTransport] = []

    class Counting(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            accepted.append(transport)

    class CountingHandler(ServingHandler):
        async def open_listener(self, sock: socket.socket, entrypoint: int) -> Any:
            return await asyncio.get_running_loop().create_server(Counting, sock=sock)

    async def run() -> None:
        opened = await open_listening(CountingHandler(), "127.0.0.1", unused_tcp_port)
        clients = [socket.create_connection(("127.0.0.1", unused_tcp_port), 60) for _ in range(1500)]
        await close_listening([opened])
        await run_rounds()
        assert len(accepted) == 1500
        for client in clients:
            client.close()
        for transport in accepted:
            transport.close()
        await run_rounds()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(run())
