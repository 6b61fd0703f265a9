"""The laws of test_laws.py also hold if middlewares use the bodies, and random frames leave nothing behind then."""

import contextlib
import random

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maesh_core.plugin_system.interfaces import Response, WholeBody
from maesh_core.settings import CarryingSettings

from .exchanges.body_doubles import Tap, Upper, Uses
from .http2.fuzzing import fuzz
from .test_laws import GET, REQUEST_BITS, RESPONSE_BITS, cut, read_requests

USES = {
    "none": lambda: None,
    "tap": Tap,
    "upper": Upper,
    "later": lambda: Upper(is_async=True),
    "whole": lambda: WholeBody(limit_bytes=2, decide=lambda body: body * 2),
    "passed": lambda: WholeBody(limit_bytes=2, decide=lambda body: b"", is_passed_if_larger=True),
    "answer": lambda: WholeBody(limit_bytes=100, decide=lambda body: Response(status=418, reason="no")),
}
NAMES = st.lists(st.sampled_from(sorted(USES)), min_size=1, max_size=3)


def build(names):
    return [Uses(USES[name], USES[name]) for name in names]


@settings(max_examples=150, deadline=None)
@given(NAMES, st.lists(REQUEST_BITS, max_size=10).map(b"".join), st.lists(st.integers(1, 60), min_size=1, max_size=3))
async def test_a_server_sees_one_whole_request_at_a_time_whatever_a_client_sends(open_world, names, data, sizes):
    async with open_world(middlewares=build(names)) as world:
        client = world.open_client()
        for piece in cut(data, sizes):
            if client.transport.is_reading:
                client.send(piece)
            await world.settle()
            while world.connects:
                await world.accept()
            await world.settle()
            for server in world.servers:
                requests = read_requests(bytes(server.transport.sent))
                open_requests = requests[getattr(server, "answered", 0) :]
                assert len(open_requests) <= 1
                if open_requests and open_requests[0][3] and not server.is_closed:
                    server.answered = len(requests)
                    server.send(b"HTTP/1.1 204 No Content\r\n\r\n")
        assert len(world.servers) <= data.count(b"HTTP/1.")
        world.advance(100.0)
        await world.settle()
        assert world.handler.environment.collected.size_bytes == 0


@settings(max_examples=200, deadline=None)
@given(
    NAMES,
    st.sampled_from([GET, GET.replace(b"GET", b"HEAD"), GET.replace(b"1.1", b"1.0")]),
    st.lists(RESPONSE_BITS, max_size=8).map(b"".join) | st.binary(max_size=50),
    st.lists(st.integers(1, 60), min_size=1, max_size=3),
    st.booleans(),
)
async def test_a_client_sees_a_well_formed_response_or_a_cut_whatever_a_server_sends(
    open_world, names, request_, data, sizes, is_reset
):
    async with open_world(middlewares=build(names)) as world:
        client = world.open_client()
        client.send(request_)
        server = await world.accept()
        for piece in cut(data, sizes):
            if not server.transport.is_reading:
                await world.settle()
            server.send(piece)
        await world.settle()
        server.lose(ConnectionResetError() if is_reset else None)
        await world.settle()
        await world.settle()
        check_response(client, request_)


def check_response(client, request_):
    """Read with h11 what a client got: a complete response, or a cut one if its connection was reset."""
    reader = h11.Connection(h11.CLIENT)
    reader.send(h11.Request(method=request_.split(b" ")[0].decode(), target="/", headers=[("Host", "a")]))
    reader.send(h11.EndOfMessage())
    answer = client.take()
    if answer:
        reader.receive_data(answer)
    if client.is_closed and not client.transport.is_reset:
        reader.receive_data(b"")
    events = []
    with contextlib.suppress(h11.RemoteProtocolError) if client.transport.is_reset else contextlib.nullcontext():
        while (event := reader.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
            events.append(event)
            if isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
                break
    is_complete = bool(events) and isinstance(events[-1], h11.EndOfMessage)
    assert is_complete is not client.transport.is_reset
    assert reader.trailing_data[0] == b""


@settings(max_examples=150, deadline=None)
@given(NAMES, st.lists(RESPONSE_BITS, max_size=6).map(b"".join), st.lists(st.integers(1, 60), min_size=1, max_size=3))
async def test_no_byte_of_one_clients_response_reaches_another(open_world, names, data, sizes):
    async with open_world(middlewares=build(names)) as world:
        first = world.open_client()
        first.send(GET)
        server = await world.accept()
        for piece in cut(data, sizes):
            if not server.transport.is_reading:
                await world.settle()
            server.send(piece)
        await world.settle()
        second = world.open_client()
        if server.protocol in world.idle:
            first.take()
            second.send(GET)
            server.send(b"HTTP/1.1 204 No Content\r\nX: second\r\n\r\n")
            second.expect(b"HTTP/1.1 204 No Content\r\nX: second\r\n\r\n")
            first.expect(b"")
        else:
            second.send(GET)
            second.expect(b"")


@pytest.mark.parametrize("scheme", ["h2c", "http"])
@pytest.mark.parametrize("seed", range(12))
async def test_random_frames_leave_nothing_behind(open_world, caplog, seed, scheme):
    numbers = random.Random(seed)
    middlewares = build(numbers.choices(sorted(USES), k=2))
    async with open_world(scheme=scheme, settings=CarryingSettings(node="n"), middlewares=middlewares) as world:
        sent = await fuzz(world, numbers, 200)
    assert sent >= 200
    assert caplog.records == []
    assert world.handler.environment.collected.size_bytes == 0
