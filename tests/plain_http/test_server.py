"""The small HTTP server on real sockets: what is sent to it, and what comes back."""

import asyncio
import logging
import os
import socket
from contextlib import suppress

import pytest

from maesh_core.plain_http import server as server_module
from maesh_core.plain_http.messages import Request, RequestReader, Response
from maesh_core.plain_http.server import ACCEPT_BATCH, PARSED_BYTES, QUEUE_LIMIT

from .serving import CUT, GET, HOST, LAST, OK, connecting, exchange, serving, until


async def test_a_response_has_its_fields_and_its_length() -> None:
    async with serving() as server:
        answer = await exchange(server, b"GET /status HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
    assert answer == b"HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 4\r\nConnection: close\r\n\r\npage"


async def test_a_connection_carries_requests_one_after_the_other_pipelined_or_not() -> None:
    seen: list[Request] = []

    async def answer(request: Request) -> Response:
        await asyncio.sleep(0)
        return Response(status=200, body=request.target + b"\n")

    def respond(request: Request) -> object:
        seen.append(request)
        return answer(request) if request.target == b"/a" else Response(status=200, body=request.target + b"\n")

    async with serving(respond) as server, connecting(server) as (reader, writer):
        for sent, target in (
            (b"GET /a HTTP/1.1\r\n" + HOST + b"\r\n", b"/a\n"),
            (b"GET /b?c HTTP/1.1\r\n" + HOST + b"\r\nHEAD /d", b"/b?c\n"),
        ):
            writer.write(sent)
            assert b"Connection" not in await reader.readuntil(b"\r\n\r\n")
            assert await reader.readline() == target
        writer.write(b" HTTP/1.1\r\n" + HOST + b"\r\n" + b"GET /a HTTP/1.1\r\n" + HOST + b"\r\n" + LAST)
        rest = await reader.read()
    assert [part.partition(b"\r\n\r\n")[2] for part in rest.split(b"HTTP/1.1 200 OK\r\n")] == [
        b"",
        b"",
        b"/a\n",
        b"/\n",
    ]
    assert [each.target for each in seen] == [b"/a", b"/b?c", b"/d", b"/a", b"/"]
    assert {each.remote for each in seen} == {"127.0.0.1"}


async def test_many_requests_that_come_at_once_are_answered_in_order() -> None:
    async def respond(request: Request) -> Response:
        await asyncio.sleep(0)
        return Response(status=200, body=request.target)

    count = 20 * QUEUE_LIMIT
    sent = b"".join(b"GET /%d HTTP/1.1\r\n" % number + HOST + b"\r\n" for number in range(count))
    async with serving(respond) as server:
        answers = await exchange(server, sent + LAST)
    assert [part.split(b"\r\n\r\n")[1] for part in answers.split(b"HTTP/1.1 ")[1:-1]] == [
        b"/%d" % number for number in range(count)
    ]


@pytest.mark.parametrize("is_ended", [False, True])
async def test_of_requests_that_come_at_once_only_a_few_are_parsed_before_they_are_answered(
    is_ended: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting: list[int] = []
    smallest = b"GET / HTTP/1.1\r\nHost:\r\n\r\n"

    class Reader(RequestReader):
        def feed(self, data: bytes | memoryview) -> None:
            super().feed(data)
            waiting.append(len(self.requests))

    monkeypatch.setattr(server_module, "RequestReader", Reader)
    async with serving() as server, connecting(server) as (reader, writer):
        writer.write(smallest * 30_000)
        if is_ended:
            writer.write_eof()
        for _ in range(30_000):
            await reader.readuntil(b"page")
    assert QUEUE_LIMIT < max(waiting) <= QUEUE_LIMIT + PARSED_BYTES // len(smallest) + 1


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"x" * 10_000_000, 431),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 99000000\r\n\r\n" + b"x" * 10_000_000, 200),
        (b"GET / HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n" + b"x" * 10_000, 200),
    ],
)
async def test_a_client_that_sends_on_gets_its_one_answer_and_the_end(sent: bytes, status: int) -> None:
    async with serving() as server, connecting(server) as (reader, writer):
        writer.write(sent)
        answer = await reader.readuntil(b"\r\n\r\n")
        with suppress(ConnectionError):
            answer += await reader.read()
    assert int(answer.split(b" ")[1]) == status
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"\r\nConnection: close\r\n" in answer


async def test_a_response_may_end_the_connection() -> None:
    async with serving(lambda request: Response(status=503, is_last=True)) as server:
        assert (await exchange(server, GET)).endswith(b"\r\nConnection: close\r\n\r\n")


@pytest.mark.parametrize("is_later", [False, True])
async def test_a_page_that_fails_is_a_500_and_the_next_one_is_served(
    is_later: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail_later() -> Response:
        raise KeyError("broken")

    def respond(request: Request) -> object:
        if request.target != b"/bad":
            return OK
        if is_later:
            return fail_later()
        raise KeyError("broken")

    with caplog.at_level(logging.ERROR, server_module.__name__):
        async with serving(respond) as server:
            answers = await exchange(server, b"GET /bad HTTP/1.1\r\n" + HOST + b"\r\n" + LAST)
    assert answers.startswith(b"HTTP/1.1 500 ")
    assert answers.endswith(b"\r\n\r\npage")
    assert "/bad failed" in caplog.text
    assert "broken" in caplog.text


async def test_a_client_that_sends_half_a_request_is_cut_at_the_time_limit() -> None:
    async with serving(request_s=0.0) as server, connecting(server) as (reader, writer):
        writer.write(b"GET / HTT")
        with pytest.raises(CUT):
            await reader.readexactly(1)


@pytest.mark.parametrize("sent", [GET, LAST])
async def test_a_client_that_does_not_read_is_cut_at_the_time_limit(sent: bytes) -> None:
    page = Response(status=200, body=bytes(64 << 20))
    async with serving(lambda request: page, send_s=0.0) as server, connecting(server) as (reader, writer):
        writer.write(sent)
        with pytest.raises(CUT):
            await reader.readexactly(64 << 20)


async def test_nothing_is_answered_while_the_client_has_not_taken_the_answer_before() -> None:
    asked: list[Request] = []

    def respond(request: Request) -> Response:
        asked.append(request)
        return Response(status=200, body=bytes(64 << 20))

    async with serving(respond) as server, connecting(server) as (reader, writer):
        writer.write(GET + LAST)
        await reader.readuntil(b"\r\n\r\n")
        assert len(asked) == 1
        await reader.readexactly(64 << 20)
        await reader.readuntil(b"\r\n\r\n")
        assert len(asked) == 2


async def test_at_the_limit_the_longest_idle_client_makes_room() -> None:
    async with serving(clients=2) as server, connecting(server) as first, connecting(server) as second:
        for reader, writer in (first, second, first):
            writer.write(GET)
            await reader.readuntil(b"page")
        assert (await exchange(server, LAST)).endswith(b"page")
        with pytest.raises(CUT):
            await second[0].readexactly(1)
        first[1].write(LAST)
        assert (await first[0].read()).endswith(b"page")


async def test_at_the_limit_a_client_that_sends_a_part_of_a_head_is_not_the_longest_silent() -> None:
    async with serving(clients=2) as server, connecting(server) as first, connecting(server) as second:
        for reader, writer in (first, second):
            writer.write(GET)
            await reader.readuntil(b"page")
        silent = next(iter(server.places.idle))
        first[1].write(GET[:5])
        await until(lambda: next(iter(server.places.idle)) is not silent)
        assert (await exchange(server, LAST)).endswith(b"page")
        with pytest.raises(CUT):
            await second[0].readexactly(1)
        first[1].write(GET[5:])
        assert (await first[0].readuntil(b"page")).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("sent", [GET * 2, LAST])
async def test_at_the_limit_a_client_that_does_not_read_makes_room(sent: bytes) -> None:
    pages = {b"/": Response(status=200, body=bytes(64 << 20)), b"/ping": OK}
    ping = LAST.replace(b"/", b"/ping", 1)
    async with (
        serving(lambda request: pages[request.target], clients=2) as server,
        connecting(server) as first,
        connecting(server) as second,
    ):
        for number, (reader, writer) in enumerate((first, second), 1):
            writer.write(sent)
            await reader.readuntil(b"\r\n\r\n")
            await until(lambda number=number: len(server.places.stalled) == number)  # type: ignore[misc]
        await first[0].readexactly(1 << 20)
        assert (await exchange(server, ping)).endswith(b"page")
        with pytest.raises(CUT):
            await first[0].readexactly(64 << 20)
        await second[0].readexactly(64 << 20)


@pytest.mark.parametrize("sent", [b"nonsense\r\n\r\n", b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 9\r\n\r\n"])
async def test_at_the_limit_a_client_that_was_answered_and_lingers_makes_room(sent: bytes) -> None:
    async with serving(clients=1, linger_s=60) as server, connecting(server) as (reader, writer):
        writer.write(sent)
        assert (await reader.read()).startswith(b"HTTP/1.1 ")
        assert (await exchange(server, LAST)).endswith(b"page")


async def test_closing_lets_a_client_linger_that_was_answered_before() -> None:
    async with serving(linger_s=60) as server, connecting(server) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 9\r\n\r\n")
        await reader.read()
        closing = asyncio.create_task(server.close(grace_s=60))
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(server.places.all) == 1
        writer.write_eof()
        await closing


async def test_clients_that_wait_in_the_kernels_queue_take_few_descriptors_above_the_limit() -> None:
    def count_descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    async with serving(clients=1) as server:
        clients = [socket.create_connection(("127.0.0.1", server.port or 0)) for _ in range(20 * ACCEPT_BATCH)]
        before = most = count_descriptors()
        loop = asyncio.get_running_loop()
        for client in clients:
            client.setblocking(False)
        ends = [asyncio.ensure_future(loop.sock_recv(client, 1)) for client in clients[:-1]]
        while not all(end.done() for end in ends):
            most = max(most, count_descriptors())
            await asyncio.sleep(0)
        await asyncio.gather(*ends, return_exceptions=True)
        for client in clients:
            client.close()
    assert ACCEPT_BATCH <= most - before <= 4 * ACCEPT_BATCH + 1


class Gate:
    """Answers once it is opened."""

    def __init__(self) -> None:
        self.asked, self.opened, self.ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def __call__(self, request: Request) -> Response:
        self.asked.set()
        try:
            await self.opened.wait()
        finally:
            self.ended.set()
        return OK


async def test_at_the_limit_a_client_is_refused_while_all_others_are_answered() -> None:
    gate = Gate()
    async with serving(gate, clients=1) as server, connecting(server) as (reader, writer):
        writer.write(LAST)
        await gate.asked.wait()
        async with connecting(server) as (refused, _):
            with pytest.raises(CUT):
                await refused.readexactly(1)
        gate.opened.set()
        assert (await reader.read()).endswith(b"page")
        await until(lambda: not server.places.all)
        assert (await exchange(server, LAST)).endswith(b"page")


async def test_a_client_that_has_ended_its_side_is_answered() -> None:
    gate = Gate()
    async with serving(gate) as server, connecting(server) as (reader, writer):
        writer.write(GET + GET)
        writer.write_eof()
        await gate.asked.wait()
        gate.opened.set()
        assert (await reader.read()).count(b"page") == 2


@pytest.mark.parametrize("cancels_at_end", [False, True])
async def test_the_answer_to_a_client_that_is_gone_is_cancelled(cancels_at_end: bool) -> None:
    gate = Gate()
    async with serving(gate, cancels_at_end=cancels_at_end) as server, connecting(server) as (_, writer):
        writer.write(GET)
        await gate.asked.wait()
        if cancels_at_end:
            writer.write_eof()
        else:  # a reset, which asyncio sees only where it reads or writes
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            writer.transport.abort()
        await gate.ended.wait()


async def test_closing_waits_for_answers_then_frees_the_port() -> None:
    gate = Gate()
    async with serving(gate) as server, connecting(server) as (idle, _), connecting(server) as (reader, writer):
        writer.write(GET)
        await gate.asked.wait()
        port = server.port
        closing = asyncio.create_task(server.close(grace_s=60))
        assert await idle.read() == b""
        gate.opened.set()
        assert (await reader.read()).endswith(b"Connection: close\r\n\r\npage")
        await closing
        assert server.port is None
        socket.create_server(("127.0.0.1", port or 0)).close()


async def test_closing_cuts_what_is_not_answered_within_the_grace() -> None:
    gate = Gate()
    async with serving(gate) as server, connecting(server) as (reader, writer):
        writer.write(GET)
        await gate.asked.wait()
        await server.close(grace_s=0.001)
        assert gate.ended.is_set()
        with pytest.raises(CUT):
            await reader.readexactly(1)
