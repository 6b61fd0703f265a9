"""The small HTTP server over TLS: answers, half-open handshakes, and a context that is replaced."""

import asyncio
import socket
import ssl
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import msgspec
import pytest
import trustme

from maesh_core.plain_http import connection_places
from maesh_core.plain_http.messages import Request, Response
from maesh_core.plain_http.server import HttpServer, ServerLimits
from maesh_core.plain_http.tls_handshake import TLS_BUFFER_BYTES

LAST = b"GET /page HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n"


class Side:
    """The contexts of a server's certificate, and of clients that trust it."""

    def __init__(self) -> None:
        self.authority = authority = trustme.CA()
        self.server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1").configure_cert(self.server)
        self.client = ssl.create_default_context()
        authority.configure_trust(self.client)


@pytest.fixture(scope="module")
def side() -> Side:
    return Side()


def answer(request: Request) -> Response:
    return Response(status=200, body=b"%b from %b" % (request.target, request.remote.encode()))


def refuse(status: int, reason: str) -> Response:
    return Response(status=status, body=reason.encode())


@asynccontextmanager
async def serving(context: ssl.SSLContext | None, respond: Any = answer, **limits: Any) -> AsyncIterator[HttpServer]:
    server = HttpServer(respond, refuse, msgspec.structs.replace(ServerLimits(), **limits), cancels_at_end=True)
    server.context = context
    await server.listen(socket.create_server(("127.0.0.1", 0)))
    try:
        yield server
    finally:
        await server.close()
        await asyncio.sleep(0)
    assert (server.places.all, server.places.idle, server.places.stalled) == (set(), {}, {})
    assert asyncio.all_tasks() == {asyncio.current_task()}


@asynccontextmanager
async def connecting(
    server: HttpServer, context: ssl.SSLContext | None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()


async def exchange(server: HttpServer, context: ssl.SSLContext | None, sent: bytes = LAST) -> bytes:
    async with connecting(server, context) as (reader, writer):
        writer.write(sent)
        return await reader.read()


async def wait_for_clients(server: HttpServer, count: int) -> None:
    while len(server.places.all) < count:  # noqa: ASYNC110 - the server tells nobody of its clients
        await asyncio.sleep(0)


async def test_a_request_is_answered(side: Side) -> None:
    async with serving(side.server) as server:
        assert (await exchange(server, side.client)).endswith(b"\r\n\r\n/page from 127.0.0.1")


async def test_requests_that_are_sent_together_are_answered_one_after_the_other(side: Side) -> None:
    async with serving(side.server) as server:
        kept = LAST.replace(b"Connection: close\r\n", b"")
        assert (await exchange(server, side.client, kept + kept + LAST)).count(b"/page from") == 3


async def test_a_large_answer_is_complete(side: Side) -> None:
    body = bytes(range(256)) * 8192
    async with serving(side.server, lambda request: Response(status=200, body=body)) as server:
        assert (await exchange(server, side.client)).endswith(body)


async def test_a_request_with_a_body_is_refused_and_its_answer_is_read(side: Side) -> None:
    async with serving(side.server, linger_s=0.01) as server:
        sent = b"POST / HTTP/1.1\r\nHost: node\r\nContent-Length: 5\r\n\r\nhello"
        async with connecting(server, side.client) as (reader, writer):
            writer.write(sent)
            assert (await reader.readuntil(b"/ from 127.0.0.1")).startswith(b"HTTP/1.1 200")


async def test_a_client_without_tls_is_refused(side: Side) -> None:
    async with serving(side.server) as server:
        received = await exchange(server, None, LAST.replace(b"Connection: close\r\n", b"") + LAST)
        assert received.startswith(b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: TLS/1.2, HTTP/1.1\r\n")
        assert received.count(b"HTTP/1.1 426") == 1, "the connection ends"
        assert b"/page" not in received
        assert (await exchange(server, side.client)).startswith(b"HTTP/1.1 200")


async def test_what_may_be_clear_is_answered_without_tls(side: Side) -> None:
    async with serving(side.server) as server:
        server.may_be_clear = lambda request: request.target == b"/page"
        assert (await exchange(server, None)).startswith(b"HTTP/1.1 200")
        assert (await exchange(server, None, LAST.replace(b"/page", b"/page?x"))).startswith(b"HTTP/1.1 426")


async def test_a_protected_server_without_a_certificate_answers_only_what_may_be_clear(side: Side) -> None:
    async with serving(None) as server:
        server.is_protected = True
        with pytest.raises(ConnectionError):
            await exchange(server, side.client)
        assert (await exchange(server, None)).startswith(b"HTTP/1.1 426")
        server.may_be_clear = lambda request: True
        assert (await exchange(server, None)).startswith(b"HTTP/1.1 200")
        server.context = side.server
        assert (await exchange(server, side.client)).startswith(b"HTTP/1.1 200")


async def test_a_request_has_the_certificate_that_its_client_has_shown(side: Side) -> None:
    seen: list[Request] = []

    def note(request: Request) -> Response:
        seen.append(request)
        return answer(request)

    authority, mutual = trustme.CA(), Side()
    mutual.server.verify_mode = ssl.CERT_OPTIONAL
    authority.configure_trust(mutual.server)
    async with serving(mutual.server, note) as server:
        await exchange(server, mutual.client)
        authority.issue_cert("client.example").configure_cert(mutual.client)
        await exchange(server, mutual.client)
        trustme.CA().issue_cert("client.example").configure_cert(mutual.client)
        with suppress(OSError):  # in TLS 1.3 the client learns it after its handshake
            assert await exchange(server, mutual.client) == b""
    assert [request.is_encrypted for request in seen] == [True, True]
    assert seen[0].certificate is None
    assert seen[1].certificate is not None
    assert seen[1].certificate["subjectAltName"] == (("DNS", "client.example"),)


async def test_a_handshake_may_arrive_byte_by_byte(side: Side) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = side.client.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    async with serving(side.server) as server, connecting(server, None) as (reader, writer):

        async def send() -> None:
            for byte in outgoing.read():
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0)

        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                await send()
                incoming.write(await reader.read(65536))
        client.write(LAST)
        await send()
        received = b""
        while b"/page from" not in received:
            incoming.write(await reader.read(65536))
            with suppress(ssl.SSLWantReadError):
                received += client.read(65536)
        assert received.startswith(b"HTTP/1.1 200")


async def test_an_unfinished_handshake_takes_little_memory(side: Side) -> None:
    count = 40
    async with serving(side.server) as server, AsyncExitStack() as stack:
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            for _ in range(count):
                _, writer = await stack.enter_async_context(connecting(server, None))
                writer.write(b"\x16\x03\x01")
            while sum(each._securing is not None for each in server.places.all) < count:  # noqa: ASYNC110
                await asyncio.sleep(0)
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert (after - before) / count < 4 * TLS_BUFFER_BYTES, "with the clients' side"


async def test_a_client_with_a_certificate_does_not_count_for_its_address(
    side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_places, "LOOPBACK", ())
    authority, mutual = trustme.CA(), Side()
    mutual.server.verify_mode = ssl.CERT_OPTIONAL
    authority.configure_trust(mutual.server)
    shown = ssl.create_default_context()
    mutual.authority.configure_trust(shown)
    authority.issue_cert("client.example").configure_cert(shown)
    kept = LAST.replace(b"Connection: close\r\n", b"")
    async with serving(mutual.server, address_clients=1) as server, AsyncExitStack() as stack:
        proven = [await stack.enter_async_context(connecting(server, shown)) for _ in range(3)]
        for reader, writer in proven:
            writer.write(kept)
            await reader.readuntil(b"/page from 127.0.0.1")
        for _ in range(2):
            unproven, writer = await stack.enter_async_context(connecting(server, mutual.client))
            writer.write(kept)
            await unproven.readuntil(b"/page from 127.0.0.1")
        assert len(server.places.all) == 4
        for reader, writer in proven:
            writer.write(LAST)
            assert (await reader.read()).startswith(b"HTTP/1.1 200")


async def test_a_handshake_that_is_not_finished_is_cut(side: Side) -> None:
    async with serving(side.server, handshake_s=0.01) as server, connecting(server, None) as (reader, _):
        received = b""
        with suppress(ConnectionError):
            received = await reader.read()
        assert received == b""


async def test_unfinished_handshakes_count_as_clients_and_leave_room_for_new_ones(side: Side) -> None:
    async with serving(side.server, clients=2) as server, connecting(server, None) as one, connecting(server, None):
        await wait_for_clients(server, 2)
        assert (await exchange(server, side.client)).startswith(b"HTTP/1.1 200")
        with suppress(ConnectionError):
            assert await one[0].read() == b""
        assert len(server.places.all) <= 2


async def test_closing_ends_handshakes_and_answers(side: Side) -> None:
    waiting = asyncio.Event()

    async def wait(request: Request) -> Response:
        waiting.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with serving(side.server, wait) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=side.client)
        writer.write(LAST)
        await waiting.wait()
        silent = socket.create_connection(("127.0.0.1", server.port or 0))
        await wait_for_clients(server, 2)
        await server.close()
        with suppress(ConnectionError):
            assert await reader.read() == b""
        silent.close()
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()


async def test_a_client_that_leaves_cancels_its_answer(side: Side) -> None:
    waiting, cancelled = asyncio.Event(), asyncio.Event()

    async def wait(request: Request) -> Response:
        waiting.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError

    async with serving(side.server, wait) as server:
        async with connecting(server, side.client) as (_, writer):
            writer.write(LAST)
            await waiting.wait()
        await cancelled.wait()


async def test_another_context_serves_new_connections_and_leaves_old_ones(side: Side) -> None:
    other = Side()
    async with serving(side.server) as server, connecting(server, side.client) as (reader, writer):
        server.context = other.server
        with pytest.raises(ssl.SSLCertVerificationError):
            await exchange(server, side.client)
        assert (await exchange(server, other.client)).startswith(b"HTTP/1.1 200")
        writer.write(LAST)
        assert (await reader.read()).startswith(b"HTTP/1.1 200")
