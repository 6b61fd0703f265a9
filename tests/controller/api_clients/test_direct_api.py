"""Whether a request that failed can be sent to another controller."""

import asyncio
import ssl
from contextlib import asynccontextmanager

import aiohttp
import pytest

from maesh_core.controller.api_clients.direct_api import DirectApi
from maesh_core.errors import ApiRefusedError, ControllerLostError, ControllerUnreachableError


@asynccontextmanager
async def serve(answer, *, scheme="http", timeout_s=5.0):
    """Serve connections by a function; return the API of this controller, and the requests."""
    requests = []

    async def handle(reader, writer):
        requests.append(await reader.readuntil(b"\r\n\r\n") if scheme == "http" else b"")
        await answer(reader, writer)
        writer.transport.abort()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context())
    async with server, aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        yield DirectApi(session, f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"), requests


async def end(reader, writer):
    pass


async def be_silent(reader, writer):
    await reader.read()


async def refuse(reader, writer):
    writer.write(b"HTTP/1.1 409 Conflict\r\nContent-Length: 3\r\n\r\nno\n")
    await writer.drain()


@pytest.mark.parametrize("answer", [end, be_silent])
async def test_a_change_whose_answer_is_lost_may_have_been_made(answer):
    async with serve(answer, timeout_s=0.2) as (api, requests):
        with pytest.raises(ControllerLostError, match="it may have done what was asked"):
            await api.post("/page", b"{}")
        assert len(requests) == 1
        with pytest.raises(ControllerUnreachableError, match="no controller answers"):
            await api.fetch("/page")


async def test_a_change_that_was_not_sent_can_be_sent_to_another_controller():
    async with aiohttp.ClientSession() as session:
        with pytest.raises(ControllerUnreachableError):
            await DirectApi(session, "http://127.0.0.1:1").post("/page", b"{}")
    async with serve(be_silent, scheme="https", timeout_s=0.2) as (api, _):
        with pytest.raises(ControllerUnreachableError):
            await api.post("/page", b"{}")


async def test_a_refusal_is_an_answer():
    async with serve(refuse) as (api, _):
        with pytest.raises(ApiRefusedError, match="/page: 409 no") as caught:
            await api.post("/page", b"{}")
    assert caught.value.status == 409
