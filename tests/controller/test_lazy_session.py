from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from maesh_core.controller.lazy_session import LazySession


@pytest.fixture
async def url(unused_tcp_port: int) -> AsyncIterator[str]:
    """A server that answers with the fields of the request, and sets a cookie."""

    async def answer(request: web.Request) -> web.Response:
        response = web.json_response(dict(request.headers))
        response.set_cookie("a", "b")
        return response

    application = web.Application()
    application.router.add_get("/", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", unused_tcp_port).start()
    yield f"http://127.0.0.1:{unused_tcp_port}/"
    await runner.cleanup()


async def test_it_opens_with_the_first_request_and_again_after_it_was_closed(url: str) -> None:
    session = LazySession(connections=1)
    assert repr(session) == "<LazySession idle>"
    await session.close()
    for _ in range(2):
        async with session.open().get(url) as response:
            assert response.status == 200
        assert session.open() is session.open()
        assert session.state == "open"
        await session.close()
    assert session.state == "idle"


async def test_it_sends_no_cookie_and_asks_for_no_compression(url: str) -> None:
    session = LazySession(connections=1, accept="application/x-ndjson")
    for _ in range(2):
        async with session.open().get(url) as response:
            fields = await response.json()
    await session.close()
    assert "Cookie" not in fields
    assert (fields["Accept"], fields["Accept-Encoding"]) == ("application/x-ndjson", "identity")


@pytest.mark.parametrize("is_reused", [False, True])
async def test_connections_are_reused_only_on_request(url: str, is_reused: bool) -> None:
    session = LazySession(connections=1, is_reused=is_reused)
    async with session.open().get(url) as response:
        fields = await response.json()
    await session.close()
    assert (fields.get("Connection") != "close") == is_reused
