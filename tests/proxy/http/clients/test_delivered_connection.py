"""What a node under an attacker's control can send through a stream: each request is judged by the server's node."""

import asyncio
import socket

import pytest

from maesh_core.model.transport import ClientEntry
from maesh_core.plugin_system.transports import Delivery
from maesh_core.proxy.http.http2.frames import (
    END_HEADERS,
    END_STREAM,
    INTERNAL_ERROR,
    PREFACE,
    REFUSED_STREAM,
    RST_STREAM,
    render_frame_header,
)
from maesh_core.proxy.http.http2.hpack.encoder import Encoder

from ...tunnel.conftest import wait_until
from ..judging_node import CLIENT, SERVICE, JudgingNode, Pod

ALLOWED = b"GET /open HTTP/1.1\r\nHost: a\r\n\r\n"
FORBIDDEN = b"GET /secret HTTP/1.1\r\nHost: a\r\n\r\n"


async def test_each_request_of_a_stream_is_judged():
    async with Pod() as pod, JudgingNode(pod.port) as node:
        stream = await node.open()
        assert (await node.ask(stream, ALLOWED)).startswith(b"HTTP/1.1 200 ")
        answer = await node.ask(stream, FORBIDDEN)
        assert answer.startswith(b"HTTP/1.1 403 ")
        assert b"X-Maesh-Reason: not this path\r\n" in answer
        assert (await node.ask(stream, ALLOWED)).startswith(b"HTTP/1.1 200 ")
        assert pod.targets == [b"/open", b"/open"]
        assert node.guard.seen[0] == (CLIENT, b"GET", b"/open", SERVICE)


async def test_the_client_is_that_of_the_stream_whatever_the_request_says():
    async with Pod() as pod, JudgingNode(pod.port) as node:
        stream = await node.open(client="10.9.9.9")
        claims = b"GET /open HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 10.1.0.1\r\nX-Real-Ip: 10.1.0.1\r\n\r\n"
        assert (await node.ask(stream, claims)).startswith(b"HTTP/1.1 403 ")
        assert pod.heads == []


async def test_the_client_is_that_of_the_delivery_whatever_the_peer_of_the_transport_is():
    async with Pod() as pod, JudgingNode(pod.port) as node:
        protocol = await node.handler.open_delivery(Delivery("127.0.0.1", pod.port, SERVICE, CLIENT))
        near, far = socket.socketpair()
        await asyncio.get_running_loop().connect_accepted_socket(lambda: protocol, far)
        reader, writer = await asyncio.open_connection(sock=near)
        writer.write(ALLOWED)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        writer.close()


async def test_the_fields_of_the_node_that_sends_reach_the_server_once():
    async with Pod() as pod, JudgingNode(pod.port, forwarded_headers=("10.77.0.0/16",)) as node:
        fields = b"X-Forwarded-For: 10.1.0.1\r\nX-Forwarded-Server: a\r\nX-Real-Ip: 10.1.0.1\r\n"
        await node.ask(await node.open(), b"GET /open HTTP/1.1\r\nHost: a\r\nX-B: c\r\n" + fields + b"\r\n")
        assert pod.heads == [b"GET /open HTTP/1.1\r\nHost: a\r\nX-B: c\r\n" + fields + b"\r\n"]


async def test_pipelined_requests_are_judged_one_by_one():
    async with Pod() as pod, JudgingNode(pod.port) as node:
        stream = await node.open()
        stream.transport.write(ALLOWED + FORBIDDEN + ALLOWED)
        await wait_until(lambda: stream.data.count(b"HTTP/1.1 ") == 3)
        assert [line.split(b" ")[1] for line in stream.data.split(b"HTTP/1.1 ")[1:]] != []
        assert stream.data.count(b"HTTP/1.1 200 ") == 2
        assert stream.data.count(b"HTTP/1.1 403 ") == 1
        assert pod.targets == [b"/open", b"/open"]


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-encoding: chunked\r\n\r\n0\r\n\r\n" + FORBIDDEN,
        b"POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 44\r\n\r\n" + FORBIDDEN,
        b"POST /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + FORBIDDEN,
        b"POST /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + FORBIDDEN,
        b"GET /open HTTP/1.1\r\nHost: a\r\nX: a\nContent-Length: 44\r\n\r\n" + FORBIDDEN,
        b"GET /open HTTP/1.1\nHost: a\n\n" + FORBIDDEN,
        b"GET /open /secret HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http://a@b/secret HTTP/1.1\r\nHost: a\r\n\r\n",
        b"CONNECT 127.0.0.1:80 HTTP/1.1\r\nHost: 127.0.0.1:80\r\n\r\n" + FORBIDDEN,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64) + b"\r\n\r\n",
    ],
)
async def test_bytes_that_are_no_clear_request_reach_no_server(request_bytes):
    async with Pod() as pod, JudgingNode(pod.port) as node:
        answer = await node.ask(await node.open(), request_bytes)
        assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 501 ", b"HTTP/1.1 505 ")), answer
        await asyncio.sleep(0)
        assert pod.heads == []


async def test_a_body_that_looks_like_a_request_is_a_body():
    async with Pod() as pod, JudgingNode(pod.port) as node:
        head = b"POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(FORBIDDEN)
        await node.ask(await node.open(), head, FORBIDDEN)
        assert node.guard.seen == [(CLIENT, b"POST", b"/open", SERVICE)]


async def test_an_upgrade_is_judged_and_then_carries_any_bytes():
    async with Pod() as pod, JudgingNode(pod.port) as node:
        upgrade = b"GET /%b HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\n"
        refused = await node.ask(await node.open(), upgrade % b"secret")
        assert refused.startswith(b"HTTP/1.1 403 ")
        assert pod.heads == []
        stream = await node.open()
        assert (await node.ask(stream, upgrade % b"open")).startswith(b"HTTP/1.1 101 ")
        stream.transport.write(b"any bytes")
        await wait_until(lambda: stream.data.endswith(b"any bytes"))
        assert pod.upgraded == b"any bytes"


async def test_an_upgrade_that_the_server_does_not_accept_gives_no_way_around_the_judge():
    async with Pod() as pod, JudgingNode(pod.port) as node:
        stream = await node.open()
        head = b"GET /open HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n"
        await node.ask(stream, head + FORBIDDEN)
        await wait_until(lambda: stream.lost or b"403" in stream.data)
        assert pod.targets == [b"/open"]


def build_requests(*paths):
    encoder, frames = Encoder(), [PREFACE, render_frame_header(0, 4, 0, 0)]
    for number, path in enumerate(paths):
        fields = ((b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", path))
        block = encoder.encode(fields)
        frames.append(render_frame_header(len(block), 1, END_HEADERS | END_STREAM, 2 * number + 1) + block)
    return b"".join(frames)


async def test_requests_of_http2_are_judged_one_by_one():
    async with Pod() as pod, JudgingNode(pod.port, http2=False) as node:
        stream = await node.open()
        stream.transport.write(build_requests(b"/secret", b"/open", b"/secret/2"))
        await wait_until(lambda: pod.targets == [b"/open"] and stream.data.endswith(b"ok"))
        assert [seen[2] for seen in node.guard.seen] == [b"/secret", b"/open", b"/secret/2"]


def read_resets(data):
    """Return the code of each RST_STREAM, by stream."""
    codes, at = {}, 0
    while at < len(data):
        size, kind = int.from_bytes(data[at : at + 3], "big"), data[at + 3]
        if kind == RST_STREAM:
            codes[int.from_bytes(data[at + 5 : at + 9], "big")] = int.from_bytes(data[at + 9 : at + 13], "big")
        at += 9 + size
    return codes


async def test_a_request_of_http2_that_no_server_has_got_is_refused_so_that_the_sender_sends_it_elsewhere():
    async with Pod() as pod, JudgingNode(pod.port) as node:
        stream = await node.open()
        await pod.__aexit__()
        await wait_until(lambda: not node.handler.environment.upstreams)
        stream.transport.write(build_requests(b"/open", b"/secret"))
        await wait_until(lambda: read_resets(stream.data))
        assert read_resets(stream.data) == {1: REFUSED_STREAM}
        assert not stream.lost


async def test_a_request_of_http2_that_a_server_may_have_processed_is_reset():
    async with Pod() as pod, JudgingNode(pod.port) as node:
        pod.holds = True
        stream = await node.open()
        stream.transport.write(build_requests(b"/open"))
        await wait_until(lambda: pod.heads)
        await pod.__aexit__()
        await wait_until(lambda: read_resets(stream.data))
        assert read_resets(stream.data) == {1: INTERNAL_ERROR}
        assert not stream.lost


async def test_a_connection_of_tcp_for_a_service_of_http_is_refused():
    async with Pod() as pod, JudgingNode(pod.port) as node:
        stream = await node.open(protocol="tcp")
        assert stream.failure is not None
        assert pod.connections == 0


async def test_a_guard_that_fails_denies():
    async with Pod() as pod, JudgingNode(pod.port) as node:
        stream = await node.open()
        node.guard.seen = None
        answer = await node.ask(stream, ALLOWED)
        assert answer.startswith(b"HTTP/1.1 500 ")
        assert pod.heads == []


async def test_only_answers_of_this_node_are_reported():
    async with Pod() as pod, JudgingNode(pod.port) as node:
        stream = await node.open()
        await node.ask(stream, ALLOWED)
        await node.ask(stream, FORBIDDEN)
        (record,) = node.recording.records
        assert (record.status, record.client, record.service, record.target) == (403, CLIENT, SERVICE, b"/secret")
        names = {family.name for family in node.handler.collect_metrics() if family.samples}
        assert not names & {"maesh_service_requests", "maesh_entrypoint_requests", "maesh_server_attempts"}


async def test_a_server_that_fails_resets_the_stream_so_that_the_sender_decides():
    async with Pod() as pod, JudgingNode(pod.port) as node:
        stream = await node.open()
        await pod.__aexit__()
        answer = await node.ask(stream, b"POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        assert answer == b""
        assert len(stream.lost) == 1


NAMES = b"X-Maesh-Client: n/admin\r\nx_maesh_client: n/admin\r\n"


async def test_the_account_is_the_one_that_the_server_s_node_knows():
    async with Pod() as pod, JudgingNode(pod.port, has_guard=False, client_header=True) as node:
        node.paths.clients = {CLIENT: ClientEntry("a", "web@shop")}
        known, unknown = await node.open(), await node.open(client="10.9.9.9")
        for stream in (known, unknown):
            await node.ask(stream, b"GET / HTTP/1.1\r\nHost: a\r\n" + NAMES + b"\r\n")
        first, second = pod.heads
        assert first == b"GET / HTTP/1.1\r\nHost: a\r\nX-Maesh-Client: shop/web\r\n\r\n"
        assert second == b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
        node.paths.clients = {CLIENT: ClientEntry("a", "api@shop")}
        await node.ask(known, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"X-Maesh-Client: shop/api\r\n" in pod.heads[2]


async def test_without_the_setting_a_stream_is_joined():
    async with Pod() as pod, JudgingNode(pod.port, has_guard=False) as node:
        head = b"GET / HTTP/1.1\r\nHost: a\r\n" + NAMES + b"\r\n"
        await node.ask(await node.open(), head)
        assert pod.heads == [head]
