"""The admin port's server on real sockets: what is sent to it, and what comes back."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.proxy import admin_server
from maesh_core.proxy.admin import AdminResponse
from maesh_core.proxy.admin_server import AdminRequest, AdminServer, RequestReader
from maesh_core.proxy.sockets import open_sockets

HOST = b"Host: node\r\n"
CUT = (ConnectionError, asyncio.IncompleteReadError)
OK = AdminResponse(status=200, reason="ok", body=b"page", content_type=b"text/x")


@asynccontextmanager
async def serving(respond: Callable[[AdminRequest], object] = lambda request: OK) -> AsyncIterator[AdminServer]:
    server = AdminServer(respond)  # type: ignore[arg-type]
    await server.open(open_sockets("TCP", "127.0.0.1", 0))
    try:
        yield server
    finally:
        await server.close()
        await asyncio.sleep(0)


@asynccontextmanager
async def connecting(server: AdminServer) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


async def exchange(server: AdminServer, sent: bytes) -> bytes:
    """Send, and read to the connection's end."""
    async with connecting(server) as (reader, writer):
        writer.write(sent)
        return await reader.read()


async def ask(server: AdminServer, sent: bytes) -> int:
    return int((await exchange(server, sent)).split(b" ")[1])


async def test_a_response_has_its_type_its_length_and_why() -> None:
    async with serving() as server:
        answer = await exchange(server, b"GET /status HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
    assert answer == (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/x\r\nContent-Length: 4\r\nX-Maesh-Reason: ok\r\n"
        b"Connection: close\r\n\r\npage"
    )


async def test_without_a_page_the_body_is_the_reason() -> None:
    async with serving(lambda request: AdminResponse(status=503, reason="not ready")) as server:
        answer = await exchange(server, b"GET /ready HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
    assert answer.endswith(b"Content-Length: 10\r\nX-Maesh-Reason: not ready\r\nConnection: close\r\n\r\nnot ready\n")


async def test_a_connection_carries_requests_one_after_the_other_pipelined_or_not() -> None:
    seen: list[AdminRequest] = []

    async def respond(request: AdminRequest) -> AdminResponse:
        seen.append(request)
        await asyncio.sleep(0)
        return AdminResponse(status=200, reason=request.target.decode())

    async with serving(respond) as server, connecting(server) as (reader, writer):
        for sent in (b"GET /a HTTP/1.1\r\n" + HOST + b"\r\n", b"GET /b?c HTTP/1.1\r\n" + HOST + b"\r\nHEAD /d"):
            writer.write(sent)
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"Connection" not in head
            assert (await reader.readline()).rstrip() in head
        writer.write(b" HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
        rest = await reader.read()
    assert rest.endswith(b"X-Maesh-Reason: /d\r\nConnection: close\r\n\r\n")
    assert [(each.method, each.target) for each in seen] == [(b"GET", b"/a"), (b"GET", b"/b?c"), (b"HEAD", b"/d")]


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/1.0\r\n\r\n", 200),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200),
        (b"GET http://node:8080/ping HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n", 200),
        (b"GET / HTTP/1.1\r\n" + HOST + b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n", 200),
        (b"CONNECT node:1 HTTP/1.1\r\n" + HOST + b"\r\n", 200),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\nConnection: close\r\n\r\nabc", 200),
        (
            b"POST / HTTP/1.1\r\n"
            + HOST
            + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n1\r\na\r\n0\r\n\r\n",
            200,
        ),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + HOST + b"\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"bad header\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"x" * 40_000, 431),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1000000\r\n\r\n" + b"x" * 100_000, 413),
    ],
)
async def test_each_request_has_one_answer_and_the_connection_ends(head: bytes, status: int) -> None:
    async with serving() as server:
        answer = await exchange(server, head)
    assert int(answer.split(b" ")[1]) == status
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"\r\nConnection: close\r\n" in answer


async def test_a_target_in_absolute_form_names_the_page() -> None:
    async with serving(lambda request: AdminResponse(status=200, reason=request.target.decode())) as server:
        answer = await exchange(server, b"GET http://node/ping?a=b://c HTTP/1.0\r\n\r\n")
    assert answer.endswith(b"\r\n\r\n/ping?a=b://c\n")


async def test_other_methods_are_told_what_is_allowed() -> None:
    async with serving(lambda request: AdminResponse(status=405, reason="only GET and HEAD")) as server:
        assert b"\r\nAllow: GET, HEAD\r\n" in await exchange(server, b"POST / HTTP/1.0\r\n\r\n")


async def test_a_page_that_fails_is_a_500_and_the_next_one_is_served(caplog: pytest.LogCaptureFixture) -> None:
    def respond(request: AdminRequest) -> AdminResponse:
        if request.target == b"/bad":
            raise KeyError("broken")
        return OK

    with caplog.at_level(logging.ERROR, admin_server.__name__):
        async with serving(respond) as server, connecting(server) as (reader, writer):
            writer.write((b"GET /bad HTTP/1.1\r\n" + HOST + b"\r\n") + b"GET / HTTP/1.0\r\n\r\n")
            answers = await reader.read()
    assert answers.startswith(b"HTTP/1.1 500 ")
    assert answers.endswith(b"\r\n\r\npage")
    assert "the page /bad failed" in caplog.text


async def test_a_client_that_sends_half_a_request_is_cut_at_the_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin_server, "REQUEST_LIMIT_S", 0.0)
    async with serving() as server:
        assert await exchange(server, b"GET / HTT") == b""


async def test_a_client_that_does_not_read_is_cut_at_the_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin_server, "SEND_LIMIT_S", 0.0)
    page = AdminResponse(status=200, reason="ok", body=bytes(64 << 20))
    async with serving(lambda request: page) as server, connecting(server) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
        with pytest.raises(CUT):
            await reader.readexactly(64 << 20)


async def test_at_the_limit_the_longest_idle_client_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin_server, "CLIENTS_LIMIT", 2)
    async with serving() as server, connecting(server) as first, connecting(server) as second:
        for reader, writer in (first, second, first):
            writer.write(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
            await reader.readuntil(b"page")
        assert await ask(server, b"GET / HTTP/1.0\r\n\r\n") == 200
        with pytest.raises(CUT):
            await second[0].readexactly(1)
        first[1].write(b"GET / HTTP/1.0\r\n\r\n")
        assert (await first[0].read()).endswith(b"page")


async def test_at_the_limit_a_client_is_refused_while_all_others_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin_server, "CLIENTS_LIMIT", 1)
    asked, gate = asyncio.Event(), asyncio.Event()

    async def respond(request: AdminRequest) -> AdminResponse:
        asked.set()
        await gate.wait()
        return OK

    async with serving(respond) as server, connecting(server) as (reader, writer):
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        await asked.wait()
        async with connecting(server) as (refused, _):
            with pytest.raises(CUT):
                await refused.readexactly(1)
        gate.set()
        assert (await reader.read()).endswith(b"page")


async def test_a_client_that_has_ended_its_side_is_answered() -> None:
    async with serving() as server, connecting(server) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
        writer.write_eof()
        assert (await reader.read()).endswith(b"page")


async def test_closing_cuts_every_client_and_frees_the_port() -> None:
    async with serving() as server, connecting(server) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
        await reader.readuntil(b"page")
        port = server.port
        await server.close()
        with pytest.raises(CUT):
            await reader.readexactly(1)
        socket.create_server(("127.0.0.1", port or 0)).close()
        assert server.port is None


@given(st.lists(st.binary(max_size=40) | st.sampled_from([b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", b"\r\n", b"POST "])))
def test_whatever_comes_is_requests_of_which_only_the_last_may_be_refused(parts: list[bytes]) -> None:
    reader = RequestReader()
    for part in parts:
        if reader.requests and reader.requests[-1].is_last:
            break
        reader.feed(part)
    reader.release()
    assert all(request.refusal is None for request in list(reader.requests)[:-1])
