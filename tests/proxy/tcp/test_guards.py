"""Who may connect, and who may stay: what middlewares say of connections, open ones and those being made."""

import asyncio
import socket

import msgspec
import pytest

from maesh_core.model.configuration import Section

from .conftest import (
    ENTRYPOINT,
    ask,
    build_section,
    echo_whole,
    read_counter,
    read_until_closed,
    wait_until,
)


class Gate:
    """Lets in and keeps whom it is told to."""

    def __init__(self):
        self.is_open = True
        self.seen = []

    def on_connect(self, connection):
        self.seen.append((connection.client_address, connection.entrypoint, connection.service, connection.exchange))
        return self.is_open

    def is_still_allowed(self, connection):
        return self.is_open


def apply_guarded(handler, gate, *ports):
    section = build_section(*ports)
    routers = {
        key: msgspec.structs.replace(router, middlewares=("a/b/gate",)) for key, router in section.routers.items()
    }
    table = handler.compile_table(
        Section(routers=routers, services=section.services), middlewares={"a/b/gate": gate}, changed=None
    )
    handler.apply_table(table)


async def test_a_middleware_admits_clients_and_no_server_sees_the_others(handler, address, start_server):
    gate = Gate()
    heard = []

    async def note(reader, writer):
        heard.append(await reader.read())
        writer.write(b"hello")

    apply_guarded(handler, gate, await start_server(note))
    assert await ask(address, b"in") == b"hello"
    assert gate.seen == [("127.0.0.1", ENTRYPOINT, "a/b:1", None)]
    gate.is_open = False
    assert await read_until_closed(address) == b""
    assert heard == [b"in"]
    assert read_counter(handler, "denied_connections") == 1
    assert handler.environment.node.denials == {("127.0.0.1", "a/b:1"): 1}


async def test_a_connection_that_may_not_stay_is_reset_at_the_next_change(handler, address, start_server):
    async def echo_lines(reader, writer):
        while line := await reader.readline():
            writer.write(line)

    port, gate = await start_server(echo_lines), Gate()
    apply_guarded(handler, gate, port)
    reader, writer = await asyncio.open_connection(*address)
    for line in (b"one\n", b"two\n"):
        writer.write(line)
        assert await reader.readline() == line
        apply_guarded(handler, gate, port)
    gate.is_open = False
    apply_guarded(handler, gate, port)
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()


async def test_while_a_server_is_sought_a_change_of_rules_and_servers_counts(address, handler, start_server, node):
    class Narrow(Gate):
        """Lets a connection have the servers of these ports alone."""

        def __init__(self, *ports):
            super().__init__()
            self.ports = ports

        def on_connect(self, connection):
            connection.allowed_servers = [("127.0.0.1", port) for port in self.ports]
            return self.is_open

    other = await start_server(echo_whole)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as silent:
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(silent.getsockname())
        port = silent.getsockname()[1]
        apply_guarded(handler, Narrow(port, other), port, other)
        waiting = asyncio.ensure_future(read_until_closed(address))
        await wait_until(lambda: handler.environment.connecting)
        apply_guarded(handler, Narrow(port), port)
        node.pass_time(6)
        await wait_until(lambda: not handler.environment.relays)
        assert await waiting == b""
        for filler in fillers:
            filler.close()
    assert read_counter(handler, "sent_bytes") == 0


async def test_while_a_server_is_sought_a_permission_that_goes_ends_the_connection(address, handler, start_server):
    with socket.create_server(("127.0.0.1", 0), backlog=0) as silent:
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(silent.getsockname())
        gate = Gate()
        apply_guarded(handler, gate, silent.getsockname()[1])
        waiting = asyncio.ensure_future(read_until_closed(address))
        await wait_until(lambda: handler.environment.connecting)
        gate.is_open = False
        apply_guarded(handler, gate, silent.getsockname()[1])
        assert await waiting == b""
        for filler in fillers:
            filler.close()
    assert read_counter(handler, "denied_connections") == 1


async def test_while_a_server_is_sought_an_entrypoint_that_goes_ends_the_connection(address, handler, start_server):
    with socket.create_server(("127.0.0.1", 0), backlog=0) as silent:
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(silent.getsockname())
        apply_guarded(handler, Gate(), silent.getsockname()[1])
        waiting = asyncio.ensure_future(read_until_closed(address))
        await wait_until(lambda: handler.environment.connecting)
        (relay,) = handler.environment.connecting
        handler.apply_table(handler.compile_table(Section(), middlewares={}, changed=None))
        assert await waiting == b""
        for filler in fillers:
            filler.close()
    assert (relay.route.counters.refused, relay.route.counters.denied) == (1, 0)
