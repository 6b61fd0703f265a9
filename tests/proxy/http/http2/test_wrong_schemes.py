"""Servers that speak another version than their scheme says: the answer names the mistake."""

import pytest

from .framing import GET, open_http2, settings


async def test_a_server_of_http2_with_the_scheme_http_is_named_in_the_answer(world):
    client = open_http2(world)
    client.send(client.headers(1, GET))
    server = await world.accept()
    server.send(settings(MAX_CONCURRENT_STREAMS=100))
    await world.settle()
    head = dict(client.take_streams()[0][2])
    assert head[b":status"] == b"502"
    assert head[b"x-maesh-reason"] == b"the upstream speaks HTTP/2: its scheme may be h2c"


@pytest.mark.parametrize("text", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"<!DOCTYPE HTML>" * 10])
async def test_a_server_of_http1_with_the_scheme_h2c_is_named_in_the_answer(open_world, text):
    async with open_world(scheme="h2c") as world:
        client = open_http2(world)
        client.send(client.headers(1, GET))
        server = await world.accept()
        server.send(text)
        await world.settle()
        head = dict(client.take_streams()[0][2])
        assert head[b":status"] == b"502"
        assert head[b"x-maesh-reason"] == b"the upstream does not speak HTTP/2"
