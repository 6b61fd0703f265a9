"""Entrypoints: clients are accepted again after this node had no descriptors left."""

import asyncio
import contextlib
import errno
import socket
from typing import cast

from maesh_core.proxy.http.clients import listener as listener_module
from maesh_core.proxy.http.clients.listener import HttpListener
from maesh_core.proxy.http.clients.newcomers import Newcomers
from maesh_core.proxy.http.environment import Environment
from maesh_core.proxy.network.clock import Clock
from maesh_core.settings import CarryingSettings

from ...exhausted import ExhaustedListener


class Greeter(asyncio.Protocol):
    can_change_transport = False

    def __init__(self, ended):
        self.ended = ended

    def connection_made(self, transport):
        transport.write(b"hello")

    def connection_lost(self, exc):
        self.ended.set_result(exc)


async def test_accepting_goes_on_after_a_pause_where_descriptors_lack(monkeypatch, caplog):
    monkeypatch.setattr(listener_module, "ACCEPT_PAUSE_S", 0.001)
    loop = asyncio.get_running_loop()
    clock = Clock(loop)
    newcomers = Newcomers(Environment(CarryingSettings(), clock))
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    ended = loop.create_future()
    exhausted = ExhaustedListener(sock, errno.EMFILE, errno.ENOMEM)
    listener = HttpListener(newcomers, cast("socket.socket", exhausted), 5000, lambda: Greeter(ended))
    with contextlib.closing(socket.create_connection(sock.getsockname())) as client:
        client.setblocking(False)
        assert await loop.sock_recv(client, 5) == b"hello"
    assert await ended is None
    assert len(caplog.records) == 1
    listener.close()
    newcomers.close()
    clock.close()
