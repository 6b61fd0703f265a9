"""What a TCP handler does at its limits: of clients, of connections of one client, and of descriptors."""

import asyncio
import errno
import socket

from maesh_core.proxy.tcp import listener as listener_module
from maesh_core.settings import ProxySettings

from ..exhausted import ExhaustedListener
from .conftest import (
    ENTRYPOINT,
    apply,
    ask,
    build_section,
    echo_whole,
    read_counter,
    read_until_closed,
    wait_drained,
    wait_until,
)


async def test_clients_wait_while_there_is_no_descriptor_which_is_logged_once(
    handler, monkeypatch, caplog, start_server
):
    monkeypatch.setattr(listener_module, "ACCEPT_PAUSE_S", 0.001)

    apply(handler, build_section(await start_server(echo_whole)))
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    listener = await handler.open_listener(
        ExhaustedListener(sock, errno.EMFILE, errno.ENOMEM, errno.ECONNABORTED), ENTRYPOINT
    )
    assert await ask(sock.getsockname(), b"x") == b"got x"
    listener.close()
    assert len(caplog.records) == 1


async def test_no_server_is_blamed_for_descriptors_that_this_node_lacks(handler, address, start_server):
    class Exhausted:
        """Watches nothing, for there are no descriptors."""

        def watch(self, *_):
            raise OSError(errno.EMFILE, "no more")

        def close_socket(self, sock):
            sock.close()

    ports = [await start_server(echo_whole) for _ in range(2)]
    apply(handler, build_section(*ports))
    sockets, handler.environment.sockets = handler.environment.sockets, Exhausted()
    assert await read_until_closed(address) == b""
    handler.environment.sockets = sockets
    assert read_counter(handler, "failed_connects") == 2
    assert [server.aside for server in handler._streams.routes[ENTRYPOINT].list_servers()] == [None, None]
    assert await ask(address, b"x") == b"got x"


async def test_no_more_clients_are_served_than_may_be(handler, address, start_server):
    handler._settings = ProxySettings(connection_limit=1)

    async def hold(reader, writer):
        await reader.read()

    apply(handler, build_section(await start_server(hold)))
    _, writer = await asyncio.open_connection(*address)
    await wait_until(lambda: handler.environment.relays)
    assert await read_until_closed(address) == b""
    assert read_counter(handler, "excess_connections") == 1
    writer.close()
    await wait_drained(handler)


async def test_a_client_holds_no_more_connections_than_its_own_limit(handler, address, start_server):
    handler._settings = ProxySettings(connection_limit=9, client_connection_limit=1)

    async def hold(reader, writer):
        await reader.read()

    apply(handler, build_section(await start_server(hold)))
    _, writer = await asyncio.open_connection(*address)
    await wait_until(lambda: handler.environment.relays)
    assert await read_until_closed(address) == b""
    (excess,) = [each for each in handler.collect_metrics() if each.name == "maesh_tcp_excess_connections"]
    assert list(excess.samples) == [(("connection-limit",), 0), (("client-connection-limit",), 1)]
    _, other = await asyncio.open_connection(*address, local_addr=("127.0.0.2", 0))
    await wait_until(lambda: len(handler.environment.relays) == 2)
    for each in (writer, other):
        each.close()
    await wait_drained(handler)
    _, writer = await asyncio.open_connection(*address)
    await wait_until(lambda: handler.environment.relays)
    writer.close()
    await wait_drained(handler)
    assert not handler.environment.slots._by_address


async def test_an_open_connection_is_never_closed_for_a_new_client_however_long_it_was_idle(
    handler, node, address, start_server
):
    handler._settings = ProxySettings(connection_limit=1)
    apply(handler, build_section(await start_server(echo_whole)))
    reader, writer = await asyncio.open_connection(*address)
    await wait_until(lambda: handler.environment.relays)
    node.pass_time(86_400)
    assert await read_until_closed(address) == b""
    writer.write(b"x")
    writer.write_eof()
    assert await reader.read() == b"got x"
    writer.close()
    await wait_drained(handler)
