"""Laws of the whole engine under hostile bytes, with h11 as a stranger who reads what came out."""

import contextlib
from typing import Any

import h11
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

GET = b"GET / HTTP/1.1\r\nHost: a.test.maesh\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

REQUEST_BITS = st.sampled_from(
    [
        GET,
        b"GET /x HTTP/1.1\r\nHost: a.test.maesh\r\n",
        b"POST / HTTP/1.1\r\nHost: a.test.maesh\r\n",
        b"HEAD / HTTP/1.0\r\nHost: a.test.maesh\r\n",
        b"Content-Length: 3\r\n",
        b"Content-Length: 0\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: keep-alive, x\r\n",
        b"Connection: transfer-encoding\r\n",
        b"Expect: 100-continue\r\n",
        b"Host: unknown\r\n",
        b"\r\n",
        b"abc",
        b"3\r\nabc\r\n",
        b"0\r\n\r\n",
        b"\n",
        b"\r",
        b" ",
        b":",
        b"\0",
    ]
)
RESPONSE_BITS = st.sampled_from(
    [
        OK,
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.0 200 OK\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n",
        b"HTTP/1.1 101 Switching\r\n",
        b"Content-Length: 3\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: close\r\n",
        b"Connection: content-length\r\n",
        b"X: y\r\n",
        b"\r\n",
        b"abc",
        b"3\r\nabc\r\n",
        b"0\r\n\r\n",
        b"\n",
        b"\r",
        b"\0",
        b":",
    ]
)


def cut(data, sizes):
    """Cut bytes into pieces of these sizes, again and again."""
    pieces, start, turn = [], 0, 0
    while start < len(data):
        size = sizes[turn % len(sizes)]
        pieces.append(data[start : start + size])
        start, turn = start + size, turn + 1
    return pieces


def read_requests(data):
    """Read with h11 what a server got: (method, target, body, is_complete) of each request. Raises where it is none."""
    requests: list[list[Any]] = []
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Request):
            requests.append([event.method, event.target, b"", False])
        elif isinstance(event, h11.Data):
            requests[-1][2] += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            requests[-1][3] = True
            connection.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
            connection.send(h11.EndOfMessage())
            if connection.our_state is h11.MUST_CLOSE:
                assert not connection.trailing_data[0]
                return requests
            connection.start_next_cycle()
        else:
            return requests


@settings(max_examples=300)
@given(st.lists(REQUEST_BITS, max_size=10).map(b"".join), st.lists(st.integers(1, 60), min_size=1, max_size=3))
@example(
    b"POST / HTTP/1.1\r\nHost: a.test.maesh\r\nConnection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n"
    + GET,
    [99],
)
async def test_a_server_sees_one_whole_request_at_a_time_whatever_a_client_sends(open_world, data, sizes):
    async with open_world() as world:
        client = world.open_client()
        for piece in cut(data, sizes):
            if client.transport.is_reading:
                client.send(piece)
            await world.settle()
            while world.connects:
                await world.accept()
            for server in world.servers:
                requests = read_requests(bytes(server.transport.sent))
                open_requests = requests[getattr(server, "answered", 0) :]
                assert len(open_requests) <= 1
                if open_requests and open_requests[0][3] and not server.is_closed:
                    server.answered = len(requests)
                    server.send(b"HTTP/1.1 204 No Content\r\n\r\n")
        assert len(world.servers) <= data.count(b"HTTP/1.")


@settings(max_examples=300)
@given(st.binary(max_size=100), st.integers(1, 20))
async def test_nothing_that_a_client_sends_raises(open_world, data, size):
    async with open_world() as world:
        client = world.open_client()
        for piece in cut(data, [size]):
            client.send(piece)
        world.advance(100.0)
        await world.settle()
        assert client.is_closed or client.transport.has_ended


@settings(max_examples=400)
@given(
    st.sampled_from([GET, GET.replace(b"GET", b"HEAD"), GET.replace(b"1.1", b"1.0")]),
    st.lists(RESPONSE_BITS, max_size=8).map(b"".join) | st.binary(max_size=50),
    st.lists(st.integers(1, 60), min_size=1, max_size=3),
    st.booleans(),
)
@pytest.mark.slow
async def test_a_client_sees_a_well_formed_response_or_a_cut_whatever_a_server_sends(
    open_world, request_, data, sizes, is_reset
):
    async with open_world() as world:
        client = world.open_client()
        client.send(request_)
        server = await world.accept()
        for piece in cut(data, sizes):
            server.send(piece)
        server.lose(ConnectionResetError() if is_reset else None)
        await world.settle()
        reader = h11.Connection(h11.CLIENT)
        method = request_.split(b" ")[0].decode()
        reader.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
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
        for event in events:
            if isinstance(event, h11.Response) and b"100-continue" not in request_:
                assert event.status_code != 101


@settings(max_examples=200)
@given(st.lists(RESPONSE_BITS, max_size=6).map(b"".join), st.lists(st.integers(1, 60), min_size=1, max_size=3))
async def test_no_byte_of_one_clients_response_reaches_another(open_world, data, sizes):
    async with open_world() as world:
        first = world.open_client()
        first.send(GET)
        server = await world.accept()
        for piece in cut(data, sizes):
            server.send(piece)
        second = world.open_client()
        if server.protocol in world.idle:
            first.take()
            second.send(GET)
            server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond")
            second.expect(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond")
            first.expect(b"")
        else:
            second.send(GET)
            second.expect(b"")
