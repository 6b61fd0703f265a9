"""TCP through real sockets: what a client and a server see of each other."""

import asyncio
import contextlib
import socket

import msgspec
import pytest
import uvloop

from maesh_core.model.configuration import Section, StreamRouter
from maesh_core.proxy.tcp.handler import TcpHandler
from maesh_core.proxy.tcp.relay import RESET
from maesh_core.settings import ProxySettings
from maesh_testing import FakeNode, find_free_port

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


async def test_a_client_that_ended_its_side_still_gets_the_answer(handler, address, start_server):
    apply(handler, build_section(await start_server(echo_whole)))
    assert await ask(address, b"question") == b"got question"


async def test_a_server_may_speak_first(handler, address, start_server):
    async def greet(reader, writer):
        writer.write(b"220 ready\r\n")
        writer.write(await reader.readline())
        await writer.drain()

    apply(handler, build_section(await start_server(greet)))
    reader, writer = await asyncio.open_connection(*address)
    assert await reader.readline() == b"220 ready\r\n"
    writer.write(b"hello\n")
    assert await reader.read() == b"hello\n"
    writer.close()
    await writer.wait_closed()


async def test_a_server_that_refuses_is_passed_over_before_the_client_notices(handler, address, start_server):
    apply(handler, build_section(find_free_port(), await start_server(echo_whole)))
    assert [await ask(address, b"x") for _ in range(4)] == [b"got x"] * 4
    assert read_counter(handler, "failed_connects") >= 1


async def test_a_service_without_servers_closes_the_connection(handler, address):
    apply(handler, build_section())
    assert await read_until_closed(address) == b""
    await wait_drained(handler)
    assert read_counter(handler, "refused_connections") == 1


async def test_an_entrypoint_without_router_closes_the_connection(handler, address):
    assert await read_until_closed(address) == b""


async def test_servers_take_turns_by_weight(handler, address, start_server):
    async def serve_first(reader, writer):
        writer.write(b"first")

    async def serve_second(reader, writer):
        writer.write(b"second")

    ports = [await start_server(serve_first), await start_server(serve_second)]
    apply(handler, build_section(*ports, weights=[3, 1]))
    answers = [await ask(address, b"") for _ in range(8)]
    assert answers.count(b"first") == 6
    assert answers.count(b"second") == 2


async def test_an_open_connection_outlives_a_change_of_its_servers(handler, address, start_server):
    async def echo_lines(reader, writer):
        while line := await reader.readline():
            writer.write(line)

    apply(handler, build_section(await start_server(echo_lines)))
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"one\n")
    assert await reader.readline() == b"one\n"
    apply(handler, build_section(find_free_port()), changed=frozenset({"a/b:1"}))
    writer.write(b"two\n")
    assert await reader.readline() == b"two\n"
    writer.close()
    await writer.wait_closed()


async def test_a_slow_reader_holds_its_sender_back_and_gets_every_byte(handler, address, start_server):
    blob = bytes(range(256)) * 4096 * 16

    async def send_blob(reader, writer):
        writer.write(blob)
        await writer.drain()

    apply(handler, build_section(await start_server(send_blob)))
    reader, writer = await asyncio.open_connection(*address, limit=1024)
    received = bytearray()
    while piece := await reader.read(65536):
        received += piece
    assert received == blob
    writer.close()
    await writer.wait_closed()


async def test_a_slow_reader_that_ended_its_side_first_gets_every_byte_and_a_clean_end(handler, address, start_server):
    blob = bytes(range(256)) * 4096 * 16

    async def answer(reader, writer):
        await reader.read()
        writer.write(blob)
        await writer.drain()

    apply(handler, build_section(await start_server(answer)))
    reader, writer = await asyncio.open_connection(*address, limit=1024)
    writer.write(b"question")
    writer.write_eof()
    received = bytearray()
    while piece := await reader.read(65536):
        received += piece
    assert received == blob
    writer.close()
    await writer.wait_closed()
    await wait_drained(handler)


async def test_both_flows_go_on_while_the_other_is_blocked(handler, address, start_server):
    blob = bytes(range(256)) * 4096 * 16

    async def answer_before_reading(reader, writer):
        writer.write(blob)
        await writer.drain()
        assert await reader.read() == blob

    apply(handler, build_section(await start_server(answer_before_reading)))
    reader, writer = await asyncio.open_connection(*address)
    writer.write(blob)
    assert await reader.readexactly(len(blob)) == blob
    writer.write_eof()
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    await wait_drained(handler)


async def test_a_reset_by_the_server_ends_the_client(handler, address, start_server):
    async def reset(reader, writer):
        await reader.readline()
        writer.transport.abort()

    apply(handler, build_section(await start_server(reset)))
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"x\n")
    with contextlib.suppress(ConnectionError):
        assert await reader.read() == b""
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    await wait_drained(handler)


async def test_routes_that_did_not_change_are_kept(handler):
    section = build_section(1, 2)
    first = handler.compile_table(section, middlewares={}, changed=None)
    handler.apply_table(first)
    second = handler.compile_table(section, middlewares={}, changed=frozenset({"other"}))
    assert second.routes[ENTRYPOINT] is first.routes[ENTRYPOINT]
    third = handler.compile_table(section, middlewares={}, changed=frozenset({"a/b:1"}))
    assert third.routes[ENTRYPOINT] is not first.routes[ENTRYPOINT]
    assert third.counters["a/b:1"] is first.counters["a/b:1"]


async def _serve_greeting(reader, writer):
    writer.write(b"hello ")
    await echo_whole(reader, writer)
    writer.close()


async def _ask_through_a_relay():
    node = FakeNode()
    handler = TcpHandler(node)
    server = await asyncio.start_server(_serve_greeting, "127.0.0.1", 0)
    apply(handler, build_section(server.sockets[0].getsockname()[1]))
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    listener = await handler.open_listener(sock, ENTRYPOINT)
    with socket.create_connection(sock.getsockname()) as client:
        client.sendall(b"question")  # before the proxy has a chance to accept
        client.shutdown(socket.SHUT_WR)
        client.setblocking(False)
        answer = b""
        while data := await asyncio.get_running_loop().sock_recv(client, 4096):
            answer += data
    listener.close()
    server.close()
    await wait_drained(handler)
    handler.abort()
    node.close()
    return answer


@pytest.mark.parametrize("new_event_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_nothing_is_lost_that_is_said_before_both_sides_are_connected(new_event_loop):
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        assert runner.run(_ask_through_a_relay()) == b"hello got question"


async def test_servers_with_fewer_connections_come_first_where_a_service_says_so(handler, address, start_server):
    async def hold(reader, writer):
        await reader.read()

    ports = [await start_server(hold), await start_server(hold)]
    section = build_section(*ports)
    service = msgspec.structs.replace(section.services["a/b:1"], load_balancer="least-connections")
    apply(handler, Section(routers=section.routers, services={"a/b:1": service}))
    servers = list(handler._streams._table.servers.values())

    async def connect(count):
        before = sum(server.under_way for server in servers)
        writers = [(await asyncio.open_connection(*address))[1] for _ in range(count)]
        await wait_until(lambda: sum(server.under_way for server in servers) == before + count)
        return writers

    writers = await connect(8)
    assert [server.under_way for server in servers] == [4, 4]
    for relay in [relay for relay in handler.environment.relays if relay._server is servers[1]][:3]:
        relay.abort()
    assert [server.under_way for server in servers] == [4, 1]
    writers += await connect(3)
    assert [server.under_way for server in servers] == [4, 4]
    for writer in writers:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    await wait_drained(handler)
    assert [server.under_way for server in servers] == [0, 0]


async def test_a_reset_by_the_client_is_a_reset_for_the_server(handler, address, start_server):
    seen = asyncio.get_running_loop().create_future()

    async def listen(reader, writer):
        try:
            seen.set_result(await reader.read())
        except ConnectionResetError as error:
            seen.set_result(error)

    apply(handler, build_section(await start_server(listen)))
    _, writer = await asyncio.open_connection(*address)
    writer.write(b"x")
    await wait_until(lambda: handler.environment.relays - handler.environment.connecting)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.close()
    assert isinstance(await seen, ConnectionResetError)
    await wait_drained(handler)


async def test_a_server_that_does_not_answer_is_given_up_for_the_next(address, handler, start_server, node):
    with socket.create_server(("127.0.0.1", 0), backlog=0) as silent:
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(silent.getsockname())
        apply(handler, build_section(silent.getsockname()[1], await start_server(echo_whole)))
        asked = asyncio.ensure_future(ask(address, b"x"))
        await wait_until(lambda: handler.environment.connecting)
        node.pass_time(4.9)
        assert not asked.done()
        node.pass_time(0.3)
        assert await asked == b"got x"
        for filler in fillers:
            filler.close()


async def test_a_connection_that_lies_idle_is_reset_in_time(handler, address, start_server, node):
    received = asyncio.Event()

    async def hold(reader, writer):
        await reader.read(1)
        received.set()
        await reader.read()

    handler._settings = ProxySettings(tunnel_timeout=60)
    apply(handler, build_section(await start_server(hold)))
    reader, writer = await asyncio.open_connection(*address)
    await wait_until(lambda: handler.environment.relays - handler.environment.connecting)
    node.pass_time(50)
    writer.write(b"x")
    await received.wait()
    node.pass_time(50)
    assert handler.environment.relays
    assert handler.count_under_way() == len(handler.environment.relays)
    node.pass_time(11)
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()
    await wait_drained(handler)


async def test_what_a_server_said_before_it_reset_still_reaches_the_client(handler, address):
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        listener.setblocking(False)
        client.setblocking(False)
        apply(handler, build_section(listener.getsockname()[1]))
        await loop.sock_connect(client, address)
        server, _ = await loop.sock_accept(listener)
        await wait_until(lambda: handler.environment.relays - handler.environment.connecting)
        server.sendall(b"sorry")
        server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        server.close()
        client.sendall(b"more and more")  # so the proxy learns of it by writing
        assert await loop.sock_recv(client, 100) == b"sorry"
        with pytest.raises(ConnectionResetError):
            await loop.sock_recv(client, 100)
    await wait_drained(handler)


async def test_clients_of_a_namespace_reach_the_servers_of_their_own_rule(handler, address, start_server):
    async def answer(writer, text):
        writer.write(text)
        await writer.drain()

    own = await start_server(lambda _, writer: answer(writer, b"own"))
    theirs = await start_server(lambda _, writer: answer(writer, b"theirs"))
    found = build_section(own)
    router = StreamRouter(entrypoint=ENTRYPOINT, service="a/b:1", consumers={"lab": "a/b:1/consumer/lab/r"})
    services = {**found.services, "a/b:1/consumer/lab/r": build_section(theirs).services["a/b:1"]}
    apply(handler, Section(routers={"a/b:1": router}, services=services))
    assert await read_until_closed(address) == b"own"
    handler.apply_namespaces({"127.0.0.1": "lab"})
    assert await read_until_closed(address) == b"theirs"
    handler.apply_namespaces({"127.0.0.1": "other"})
    assert await read_until_closed(address) == b"own"
    await wait_drained(handler)
    assert read_counter(handler, "connections") == 3
