"""What passes between two nodes, and who may send it."""

import asyncio
import socket

import pytest
from maesh_relay import transport as transport_module
from maesh_relay.receiving import GRACE_S, PROOF_S

from maesh_core.plugin import ByRequest, ClientEntry, OpenFailure, PathRefusedError, Refusal, RemoteServer

from .relay_pair import RESET, Pair, Recorder, Server, wait_until


def fail(reason, status, *, is_servers_fault=False):
    return OpenFailure(reason, status, is_servers_fault)


async def test_bytes_pass_both_ways_and_the_end_of_one_side_is_forwarded_alone():
    async with Server() as server, Pair() as pair:
        end = await pair.connect(server.port)
        body = bytes(range(256)) * 8192
        end.transport.write(body)
        end.transport.write_eof()
        await wait_until(lambda: end.has_ended)
        assert end.data == body + b"bye"
        end.transport.close()
        await wait_until(lambda: not pair.receiver.count_under_way())


async def test_a_reset_of_the_server_is_a_reset_for_the_sender():
    async with Server() as server, Pair() as pair:
        end = await pair.connect(server.port)
        await wait_until(lambda: server.writers)
        server.writers[0].get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        server.writers[0].transport.abort()
        await wait_until(lambda: end.lost)
        assert isinstance(end.lost[0], ConnectionResetError)


async def test_a_server_that_does_not_accept_is_the_server_s_fault():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    async with Pair() as pair:
        assert (await pair.connect(port)).failure == fail(
            "the server refused the connection", 502, is_servers_fault=True
        )


@pytest.mark.parametrize("status", [403, 404, 503])
async def test_what_the_core_refuses_is_refused(status):
    async with Server() as server, Pair() as pair:
        pair.refuse(Refusal(status, "because"))
        assert (await pair.connect(server.port)).failure == fail("because", status)
        assert server.writers == []


async def test_a_node_that_does_not_know_the_secret_opens_nothing():
    async with Server() as server, Pair(secrets=(b"t" * 32, b"s" * 32)) as pair:
        assert (await pair.connect(server.port)).failure.status == 0
        assert server.writers == []


async def test_a_receiver_that_does_not_know_the_secret_gets_no_byte():
    received = bytearray()

    async def answer(reader, writer):
        writer.write(b"maesh-relay/1 " + b"0" * 32 + b"\n")
        received.extend(await reader.readline())
        writer.write(b"0" * 64 + b' {"status": 200}\n')
        received.extend(await reader.read())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server, Pair() as pair:
        pair.apply(port=server.sockets[0].getsockname()[1])
        end = await pair.connect(1)
        assert end.failure == fail("the proof is wrong", 0)
        assert received.endswith(b"}\n"), "the question, and nothing after it"


async def test_a_node_that_the_configuration_does_not_know_opens_nothing():
    async with Server() as server, Pair() as pair:
        pair.receiver.apply_nodes({}, {})
        assert (await pair.connect(server.port)).failure == fail("the node is not known", 403)


@pytest.mark.parametrize("node", ["b", None])
async def test_a_client_that_is_not_on_the_node_that_sends_is_refused(node, monkeypatch):
    monkeypatch.setattr(transport_module, "WAIT_S", 0.0)
    async with Server() as server, Pair() as pair:
        pair.clients = {} if node is None else {"10.0.0.9": ClientEntry(node, "web@shop")}
        pair.apply()
        end = await pair.connect(server.port, client="10.0.0.9")
        assert end.failure == fail("the client is not on the node that sends", 403)


async def test_a_client_of_a_newer_configuration_is_waited_for():
    async with Server() as server, Pair() as pair:
        end, _ = pair.open(server.port, client="10.0.0.9")
        await wait_until(lambda: pair.receiver._receiver.deciding)
        pair.clients = {"10.0.0.9": ClientEntry("a", "web@shop")}
        pair.apply()
        await wait_until(lambda: end.is_settled)
        assert end.failure is None


async def test_a_connection_that_is_denied_after_a_change_is_reset_at_once():
    async with Server() as server, Pair() as pair:
        end = await pair.connect(server.port)
        pair.receiver.review()
        assert not end.lost
        pair.refuse(Refusal(403, "denied"))
        pair.receiver.review()
        await wait_until(lambda: end.lost)
        assert isinstance(end.lost[0], ConnectionResetError)


async def test_a_connection_that_is_denied_while_it_is_opened_is_refused():
    async with Server() as server, Pair() as pair:
        engine = Recorder()
        pair.demand_judging(engine)
        pair.nodes["b"].while_opening = lambda: pair.refuse(Refusal(403, "denied"))
        assert (await pair.connect(server.port)).failure == fail("denied", 403)
        assert engine.transport is None
        assert not pair.receiver.count_under_way()


@pytest.mark.parametrize("verdict", [Refusal(404, "gone"), ByRequest()])
async def test_a_connection_whose_server_has_left_may_finish_for_a_while(verdict):
    async with Server() as server, Pair() as pair:
        node = pair.nodes["b"]
        ends = [await pair.connect(server.port) for _ in range(2)]
        pair.refuse(verdict)
        pair.receiver.review()
        node.pass_time(GRACE_S / 2)
        pair.refuse(None)
        pair.receiver.review()
        node.pass_time(GRACE_S)
        assert pair.receiver.count_under_way() == 2, "the server has returned"
        pair.refuse(verdict)
        pair.receiver.review()
        node.pass_time(GRACE_S)
        await wait_until(lambda: all(end.lost for end in ends))


async def test_what_must_be_judged_by_request_goes_to_the_http_engine():
    async with Server() as server, Pair() as pair:
        engine = Recorder()
        pair.demand_judging(engine)
        end = await pair.connect(server.port)
        end.transport.write(b"GET / HTTP/1.1\r\n\r\n")
        await wait_until(lambda: engine.data)
        assert engine.data == b"GET / HTTP/1.1\r\n\r\n"
        assert server.writers == []
        pair.receiver.review()
        engine.transport.write(b"HTTP/1.1 403 Forbidden\r\n\r\n")
        await wait_until(lambda: end.data)
        assert [each.service for each in pair.nodes["b"].opened] == ["shop/web:80"]


async def test_without_an_http_engine_such_a_connection_is_refused():
    async with Server() as server, Pair() as pair:
        pair.demand_judging()
        assert (await pair.connect(server.port)).failure.status == 503
        assert server.writers == []


async def test_a_node_that_cannot_be_reached_is_a_failure_of_the_path():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    async with Pair() as pair:
        pair.apply(port=port)
        assert (await pair.connect(1)).failure.status == 0


async def test_nothing_is_called_after_an_opening_was_cancelled():
    async with Server() as server, Pair() as pair:
        for turns in range(30):  # at any moment of the opening
            end, opening = pair.open(server.port)
            for _ in range(turns):
                await asyncio.sleep(0)
            if end.is_settled:
                break
            opening.cancel()
            await asyncio.sleep(0.01)
            assert not end.is_settled


async def test_a_connection_that_proves_nothing_is_closed_in_time():
    async with Pair() as pair:
        reader, writer = await asyncio.open_connection("127.0.0.1", pair.port)
        assert (await reader.readline()).startswith(b"maesh-relay/1 ")
        pair.nodes["b"].pass_time(PROOF_S)
        assert await reader.read() == b""
        writer.close()


@pytest.mark.parametrize("text", [b"x" * 5000, b"\n", b"0" * 64 + b" {}\n"])
async def test_other_bytes_than_a_question_end_the_connection(text):
    async with Pair() as pair:
        reader, writer = await asyncio.open_connection("127.0.0.1", pair.port)
        await reader.readline()
        writer.write(text)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        writer.close()


async def test_a_server_of_another_node_is_reached_directly_or_not_at_all():
    async with Pair() as pair:
        server = RemoteServer("127.0.0.1", 1, "c")
        assert pair.sender.find_path(server, "permissive") is None
        with pytest.raises(PathRefusedError, match="node c has no relay"):
            pair.sender.find_path(server, "strict")
