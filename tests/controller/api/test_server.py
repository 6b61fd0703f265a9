import asyncio
import socket

import pytest

from maesh_core.controller.api.server import (
    FIELDS_LIMIT,
    HEAD_LIMIT_BYTES,
    build_text,
    open_socket,
)
from maesh_core.errors import StartupError


async def answer(_):
    return build_text(200, "fine")


async def talk(url, data):
    """Send bytes, and give all that comes back until the server closes."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(data)
    received = await reader.read()
    writer.close()
    await writer.wait_closed()
    return received


async def test_a_request_is_handled(serve):
    url, _ = await serve(answer)
    received = await talk(url, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert received.endswith(b"\r\n\r\nfine")


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    ],
)
async def test_no_answer_names_our_software(serve, request_):
    url, _ = await serve(answer)
    received = (await talk(url, request_)).lower()
    assert b"server: maesh\r\n" in received
    assert b"python" not in received
    assert b"aiohttp" not in received


@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nA B: c\r\n\r\n",
        b"GET /" + b"x" * HEAD_LIMIT_BYTES + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: " + b"x" * HEAD_LIMIT_BYTES + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * (FIELDS_LIMIT + 1) + b"\r\n",
    ],
)
async def test_what_is_no_request_or_too_large_is_refused_and_its_connection_closed(serve, request_):
    url, _ = await serve(answer)
    received = await talk(url, request_)
    assert received.startswith((b"HTTP/1.0 400 ", b"HTTP/1.1 400 "))
    assert received.endswith(b"malformed request\n")
    assert (await talk(url, b"GET / HTTP/1.0\r\n\r\n")).endswith(b"fine")


async def test_a_handler_that_raises_is_reported_as_an_error_without_details(serve, caplog):
    async def fail(_):
        raise RuntimeError("a secret")

    url, _ = await serve(fail)
    received = await talk(url, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert b" 500 " in received.splitlines()[0]
    assert b"secret" not in received
    assert "a secret" in caplog.text


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nabcde",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Encoding: br\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc",
    ],
)
async def test_no_body_of_a_client_fills_the_log(serve, caplog, request_):
    url, _ = await serve(answer)
    await talk(url, request_ + b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert [record.getMessage() for record in caplog.records if record.levelname != "DEBUG"] == []


async def test_clients_that_ask_for_nothing_make_room_for_one_that_does(serve):
    url, _ = await serve(answer, connection_limit=2)
    host, port = url.removeprefix("http://").split(":")
    silent = [await asyncio.open_connection(host, int(port)) for _ in range(5)]
    silent[0][1].write(b"GET / HTTP/1.1\r\nHo")
    assert b"200 OK" in await talk(url, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert [await reader.read() for reader, _ in silent[:4]] == [b""] * 4
    for _, writer in silent:
        writer.close()


async def test_requests_under_way_are_never_closed_for_a_new_connection(serve):
    is_begun, may_end = asyncio.Event(), asyncio.Event()

    async def hold(_):
        is_begun.set()
        await may_end.wait()
        return build_text(200, "held")

    url, _ = await serve(hold, connection_limit=1)
    request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    held = asyncio.create_task(talk(url, request))
    await is_begun.wait()
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    assert await reader.read() == b""
    writer.close()
    may_end.set()
    assert (await held).endswith(b"held")


async def test_a_stopped_server_takes_no_connection(serve):
    url, server = await serve(answer)
    await server.close()
    with pytest.raises(OSError):
        await talk(url, b"")


def test_a_taken_port_stops_the_start_with_one_line_that_names_the_flag():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StartupError) as raised:
            open_socket("127.0.0.1", port, flag="--api-port")
    assert str(raised.value) == f"cannot listen on 127.0.0.1:{port} (--api-port): Address already in use"


@pytest.mark.parametrize("host", ["no.such.host.invalid", "x" * 300, "1.2.3.4.5", "\x00"])
def test_an_address_that_is_none_stops_the_start(host):
    with pytest.raises(StartupError, match="--api-port"):
        open_socket(host, 0, flag="--api-port")


def test_without_a_host_every_address_is_listened_on():
    with open_socket("", 0, flag="--api-port") as sock, socket.create_connection(("127.0.0.2", sock.getsockname()[1])):
        pass
