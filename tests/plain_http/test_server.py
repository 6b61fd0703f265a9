"""The small HTTP server on real sockets: what is sent to it, and what comes back."""

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import msgspec
import pytest

from maesh_core.plain_http import server as server_module
from maesh_core.plain_http.messages import Request, Response
from maesh_core.plain_http.server import ACCEPT_BATCH, QUEUE_LIMIT, HttpServer, ServerLimits

HOST = b"Host: node\r\n"
GET = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
LAST = b"GET / HTTP/1.0\r\n\r\n"
CUT = (ConnectionError, asyncio.IncompleteReadError)
OK = Response(status=200, fields=((b"A", b"b"),), body=b"page")


def refuse(status: int, reason: str) -> Response:
    return Response(status=status, body=reason.encode())


@asynccontextmanager
async def serving(
    respond: Callable[[Request], object] = lambda request: OK, *, cancels_at_end: bool = False, **limits: float
) -> AsyncIterator[HttpServer]:
    chosen = msgspec.structs.replace(ServerLimits(), **limits)
    server = HttpServer(respond, refuse, chosen, cancels_at_end=cancels_at_end)  # type: ignore[arg-type]
    await server.listen(socket.create_server(("127.0.0.1", 0)))
    try:
        yield server
    finally:
        await server.close()
        await asyncio.sleep(0)
    assert (server.clients, server.idle) == (set(), {})
    assert asyncio.all_tasks() == {asyncio.current_task()}


@asynccontextmanager
async def connecting(server: HttpServer) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def exchange(server: HttpServer, sent: bytes) -> bytes:
    """Send, and read to the connection's end."""
    async with connecting(server) as (reader, writer):
        writer.write(sent)
        return await reader.read()


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not is_so():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0)


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
        silent = next(iter(server.idle))
        first[1].write(GET[:5])
        await until(lambda: next(iter(server.idle)) is not silent)
        assert (await exchange(server, LAST)).endswith(b"page")
        with pytest.raises(CUT):
            await second[0].readexactly(1)
        first[1].write(GET[5:])
        assert (await first[0].readuntil(b"page")).startswith(b"HTTP/1.1 200 ")


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
        assert len(server.clients) == 1
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
        await until(lambda: not server.clients)
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


class Stream:
    """Parts that a test sends, until it ends or fails them."""

    def __init__(self) -> None:
        self.parts: asyncio.Queue[bytes | Exception] = asyncio.Queue()
        self.taken = self.closed = 0

    async def __anext__(self) -> bytes:
        part = await self.parts.get()
        if isinstance(part, Exception):
            raise part
        self.taken += 1
        return part

    def close(self) -> None:
        self.closed += 1


def streaming(stream: Stream) -> Callable[[Request], object]:
    return lambda request: Response(status=200, stream=stream) if request.target == b"/stream" else OK


STREAM = b"GET /stream HTTP/1.1\r\n" + HOST + b"\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def test_a_stream_is_sent_in_chunks_as_its_parts_come_and_the_next_request_follows() -> None:
    stream = Stream()
    async with serving(streaming(stream)) as server, connecting(server) as (reader, writer):
        writer.write(STREAM + GET)
        assert await reader.readexactly(len(CHUNKED)) == CHUNKED
        for part, expected in ((b"one", b"3\r\none\r\n"), (b"", b""), (b"x" * 10, b"a\r\nxxxxxxxxxx\r\n")):
            stream.parts.put_nowait(part)
            assert await reader.readexactly(len(expected)) == expected
        stream.parts.put_nowait(StopAsyncIteration())
        assert await reader.readexactly(5) == b"0\r\n\r\n"
        assert (await reader.readuntil(b"page")).startswith(b"HTTP/1.1 200 OK\r\nA: b")
    assert stream.closed == 1


async def test_a_stream_for_http_1_0_ends_with_the_connection() -> None:
    stream = Stream()
    async with serving(streaming(stream)) as server, connecting(server) as (reader, writer):
        writer.write(b"GET /stream HTTP/1.0\r\n\r\n")
        for part in (b"one", b"two", StopAsyncIteration()):
            stream.parts.put_nowait(part)
        assert await reader.read() == b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nonetwo"
    assert stream.closed == 1


@pytest.mark.parametrize("is_half_closed", [True, False])
async def test_a_stream_ends_when_its_client_leaves(*, is_half_closed: bool) -> None:
    stream = Stream()
    async with serving(streaming(stream)) as server:
        async with connecting(server) as (reader, writer):
            writer.write(STREAM)
            await reader.readexactly(len(CHUNKED))
            if is_half_closed:
                writer.write_eof()
            else:
                writer.transport.abort()
            await until(lambda: stream.closed > 0)
        await until(lambda: not server.clients)
    assert stream.closed == 1


async def test_a_stream_waits_for_a_client_that_does_not_read_and_cuts_it_at_the_time_limit() -> None:
    stream = Stream()
    for _ in range(1000):
        stream.parts.put_nowait(b"x" * 100_000)
    async with serving(streaming(stream), send_s=0.2) as server, connecting(server) as (_, writer):
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(STREAM)
        await until(lambda: stream.taken > 1)
        await until(lambda: stream.closed == 1)
    assert stream.taken < 1000


async def test_a_stream_that_fails_is_cut_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    stream = Stream()
    async with serving(streaming(stream)) as server, connecting(server) as (reader, writer):
        writer.write(STREAM)
        await reader.readexactly(len(CHUNKED))
        stream.parts.put_nowait(ValueError("broken"))
        with suppress(*CUT):
            assert await reader.read() == b""
        await until(lambda: stream.closed == 1)
    assert "/stream failed" in caplog.text


async def test_a_stream_of_which_nothing_is_sent_is_closed() -> None:
    stream, gate = Stream(), asyncio.Event()

    async def respond(request: Request) -> Response:
        await gate.wait()
        return Response(status=200, stream=stream)

    async with serving(respond) as server:
        async with connecting(server) as (reader, writer):
            writer.write(b"HEAD / HTTP/1.0\r\n\r\n")
            gate.set()
            assert (await reader.read()).endswith(b"\r\n\r\n")
        assert stream.closed == 1


async def test_closing_ends_streams() -> None:
    stream = Stream()
    async with serving(streaming(stream)) as server, connecting(server) as (reader, writer):
        writer.write(STREAM)
        await reader.readexactly(len(CHUNKED))
        await server.close(grace_s=0.01)
        assert stream.closed == 1
