"""Who may connect, and nodes that break rules, over real TLS by hand."""

import asyncio
import socket
import ssl
import time

import pytest

from maesh_core.proxy.http.http2 import frames as h2
from maesh_core.proxy.tunnel.identity import PeerRefusedError, check_session
from maesh_core.proxy.tunnel.limits import (
    BARREN_BYTES,
    HANDSHAKE_LIMIT_S,
    HANDSHAKES_LIMIT,
    HANDSHAKES_PER_ADDRESS,
    STREAM_WINDOW_BYTES,
    TUNNELS_PER_NODE,
)

from .conftest import Recorder, TunnelNode, build_delivery, wait_until
from .node_certificates import DAY, Authority, build_identity
from .raw_peer import RawPeer
from .scripted import frame


async def try_to_open(authority, receiver, pod, *, failure, client=None):
    """Let a node with this client context open a stream, which must fail."""
    node = TunnelNode("a")
    node.tunnels.use(client, authority.build_context("a", is_server=True))
    protocol = Recorder()
    node.tunnels.open(receiver.peer, build_delivery(pod.port), protocol)
    await wait_until(protocol.seen.is_set)
    assert protocol.failure.status == 0
    assert not protocol.failure.is_servers_fault
    assert not receiver.rules.deliveries
    await wait_until(lambda: receiver.count("tunnel_failures", role="incoming") == 1)
    assert receiver.count("tunnel_failures", role="incoming", reason=failure) == 1
    assert receiver.count("tunnels", role="incoming") == 0
    assert node.count("tunnels", role="outgoing") == 0
    assert receiver.tunnels.is_drained()
    await node.close()


CLIENTS = {
    "another authority": (lambda ours: Authority().build_context("a", is_server=False, trusted=ours), "certificate"),
    "no certificate": (lambda ours: ours.build_context("", is_server=False), "handshake"),
    "expired": (lambda ours: ours.build_context("a", is_server=False, ends_in=-DAY / 2), "certificate"),
    "not yet valid": (lambda ours: ours.build_context("a", is_server=False, starts_in=DAY / 2), "certificate"),
    "an unknown node": (lambda ours: ours.build_context("x", is_server=False), "identity"),
    "no name": (lambda ours: ours.build_context("a", is_server=False, uris=["urn:other"]), "identity"),
    "two names": (
        lambda ours: ours.build_context("a", is_server=False, uris=[build_identity("a"), build_identity("b")]),
        "identity",
    ),
    "no protocol": (lambda ours: ours.build_context("a", is_server=False, alpn=()), "protocol"),
    "another protocol": (lambda ours: ours.build_context("a", is_server=False, alpn=("http/1.1",)), "protocol"),
}


@pytest.mark.parametrize("name", CLIENTS)
async def test_a_sender_without_a_right_certificate_opens_nothing(authority, receiver, pod, name):
    build, failure = CLIENTS[name]
    await try_to_open(authority, receiver, pod, failure=failure, client=build(authority))


async def test_tls_1_2_is_refused(authority, receiver):
    context = authority.build_context("a", is_server=False)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    peer = RawPeer(context)
    with pytest.raises((ssl.SSLError, OSError)):
        await peer.connect(receiver.port)
    peer.close()
    await wait_until(lambda: receiver.count("tunnel_failures", reason="handshake") == 1)


RECEIVERS = {
    "another authority": lambda ours: Authority().build_context("b", is_server=True, trusted=ours),
    "expired": lambda ours: ours.build_context("b", is_server=True, ends_in=-DAY / 2),
    "another node": lambda ours: ours.build_context("a", is_server=True),
    "two names": lambda ours: ours.build_context("b", is_server=True, uris=[build_identity("b"), build_identity("a")]),
    "no protocol": lambda ours: ours.build_context("b", is_server=True, alpn=()),
}


@pytest.mark.parametrize("name", RECEIVERS)
async def test_a_receiver_that_is_not_the_node_that_is_meant_gets_nothing(authority, sender, receiver, pod, name):
    receiver.tunnels.use(authority.build_context("b", is_server=False), RECEIVERS[name](authority))
    protocol = Recorder()
    sender.tunnels.open(receiver.peer, build_delivery(pod.port), protocol)
    await wait_until(protocol.seen.is_set)
    assert protocol.failure.status == 0
    assert not receiver.rules.deliveries
    assert sum(sender.tunnels.environment.counters.failures.values()) == 1


async def test_a_receiver_whose_certificate_is_revoked_gets_nothing(authority, sender, receiver, pod):
    contexts = authority.build_context("b", is_server=False), authority.build_context("b", is_server=True)
    receiver.tunnels.use(*contexts)
    first, second = Recorder(), Recorder()
    sender.tunnels.open(receiver.peer, build_delivery(pod.port), first)
    await pod.accept()
    await wait_until(first.seen.is_set)
    (link,) = sender.tunnels._pools["b"]._links
    serial = link.tls.object.getpeercert()["serialNumber"]
    sender.tunnels.drop("b")
    sender.tunnels.open(receiver.peer._replace(revoked=(serial,)), build_delivery(pod.port), second)
    await wait_until(second.seen.is_set)
    assert second.failure.status == 0
    assert sender.count("tunnel_failures", reason="revoked") == 1


async def test_a_certificate_that_has_expired_since_the_handshake_is_not_resumed(authority, sender, receiver, pod):
    protocol = Recorder()
    sender.tunnels.open(receiver.peer, build_delivery(pod.port), protocol)
    await pod.accept()
    await wait_until(protocol.seen.is_set)
    (link,) = sender.tunnels._pools["b"]._links
    check_session(link.tls.object)
    with pytest.raises(PeerRefusedError):
        check_session(link.tls.object, lambda: time.time() + 3 * 86400)


# --- nodes that break rules


@pytest.fixture
async def raw(authority, receiver):
    peer = RawPeer(authority.build_context("a", is_server=False))
    await peer.connect(receiver.port)
    await peer.begin()
    yield peer
    peer.close()


async def read_to_end(sock):
    while await asyncio.get_running_loop().sock_recv(sock, 100):
        pass


def has_answer(frames):
    return any(kind == h2.HEADERS for kind, _, _, _ in frames)


async def test_a_tunnel_cut_without_close_notify_resets_the_pods(raw, receiver, pod):
    await raw.open(1, pod.port)
    accepted = await pod.accept()
    await raw.read_until(has_answer)
    await raw.send(frame(h2.DATA, 0, 1, b"half a mess"))
    raw.sock.shutdown(socket.SHUT_WR)
    with pytest.raises(ConnectionResetError):
        await read_to_end(accepted)
    assert receiver.count("tunnel_failures", role="incoming", reason="truncated") == 1


async def test_even_an_orderly_end_of_tls_resets_open_streams(raw, receiver, pod):
    await raw.open(1, pod.port)
    accepted = await pod.accept()
    await raw.read_until(has_answer)
    await raw.send(frame(h2.DATA, 0, 1, b"half a mess"))
    with pytest.raises(ssl.SSLWantReadError):
        raw.tls.unwrap()
    await raw.push()
    with pytest.raises(ConnectionResetError):
        await read_to_end(accepted)


async def test_a_changed_record_ends_the_tunnel(raw, receiver, pod):
    await raw.open(1, pod.port)
    accepted = await pod.accept()
    await raw.read_until(has_answer)
    raw.tls.write(frame(h2.DATA, h2.END_STREAM, 1, b"changed on the way"))
    record = bytearray(raw.outgoing.read())
    record[20] ^= 1
    await raw.loop.sock_sendall(raw.sock, record)
    with pytest.raises(ConnectionResetError):
        await raw.loop.sock_recv(accepted, 100)
    assert receiver.count("tunnel_failures", role="incoming", reason="tls") == 1


async def test_a_repeated_record_ends_the_tunnel(raw, receiver, pod):
    await raw.open(1, pod.port)
    accepted = await pod.accept()
    await raw.read_until(has_answer)
    raw.tls.write(frame(h2.DATA, 0, 1, b"once"))
    record = raw.outgoing.read()
    await raw.loop.sock_sendall(raw.sock, record)
    assert await raw.loop.sock_recv(accepted, 100) == b"once"
    await raw.loop.sock_sendall(raw.sock, record)
    with pytest.raises(ConnectionResetError):
        await raw.loop.sock_recv(accepted, 100)


async def test_records_split_at_every_byte_are_the_same_bytes(raw, receiver, pod):
    await raw.open(1, pod.port)
    accepted = await pod.accept()
    await raw.read_until(has_answer)
    raw.tls.write(frame(h2.DATA, 0, 1, b"split anywhere"))
    for byte in raw.outgoing.read():
        await raw.loop.sock_sendall(raw.sock, bytes([byte]))
        await asyncio.sleep(0)
    assert await raw.loop.sock_recv(accepted, 100) == b"split anywhere"


async def test_an_error_of_frames_ends_the_tunnel_with_goaway(raw, receiver):
    await raw.send(frame(h2.PING, 0, 0, b"short"))
    frames = await raw.read_to_end()
    goaways = [payload for kind, _, _, payload in frames if kind == h2.GOAWAY]
    assert int.from_bytes(goaways[0][4:8], "big") == h2.FRAME_SIZE_ERROR
    assert receiver.count("tunnel_failures", role="incoming", reason="frames") == 1
    await wait_until(receiver.tunnels.is_drained)


async def use_up_window(raw, stream_id):
    """Send to a pod that does not read until nothing more is credited, and then one byte more."""
    sent, window = 0, STREAM_WINDOW_BYTES
    while sent < window:
        size = min(65536, window - sent)
        await raw.send(frame(h2.DATA, 0, stream_id, bytes(size)))
        sent += size
        await raw.send(frame(h2.PING, 0, 0, b"%08d" % (sent % 10**8)))
        frames = await raw.read_until(lambda frames, at=sent: any(each[3] == b"%08d" % (at % 10**8) for each in frames))
        credited = [int.from_bytes(each[3], "big") for each in frames if each[:3] == (h2.WINDOW_UPDATE, 0, stream_id)]
        window = STREAM_WINDOW_BYTES + sum(credited)
    await raw.send(frame(h2.DATA, 0, stream_id, b"x"))


async def test_more_than_the_window_resets_the_stream_and_spares_the_others(raw, receiver, pod):
    await raw.open(1, pod.port)
    slow = await pod.accept()
    await raw.open(3, pod.port)
    other = await pod.accept()
    await raw.read_until(lambda frames: len([each for each in frames if each[0] == h2.HEADERS]) == 2)
    await use_up_window(raw, 1)
    await raw.send(frame(h2.DATA, 0, 3, b"fine"))
    assert await raw.loop.sock_recv(other, 100) == b"fine"
    frames = await raw.read_until(lambda frames: any(each[0] == h2.RST_STREAM for each in frames))
    assert [(each[2], each[3]) for each in frames if each[0] == h2.RST_STREAM] == [
        (1, h2.FLOW_CONTROL_ERROR.to_bytes(4, "big"))
    ]
    assert slow


async def test_a_peer_that_only_updates_keys_is_closed(raw, receiver):
    """Bytes without data: what TLS itself answers and nobody sees."""
    await wait_until(lambda: receiver.count("tunnels", role="incoming") == 1)
    await raw.send(frame(h2.PING, 0, 0, b"received"))  # it has read everything before, once it answers
    await raw.read_until(lambda frames: any(each[0] == h2.PING for each in frames))
    (link,) = receiver.tunnels._doors.links
    link._barren_bytes = BARREN_BYTES
    raw.tls.write(b"\0")
    data = raw.outgoing.read()
    await raw.loop.sock_sendall(raw.sock, data[:7])
    await wait_until(lambda: receiver.count("tunnel_failures", reason="barren") == 1)


async def test_a_client_that_opens_no_tls_is_closed_in_time(receiver):
    reader, writer = await asyncio.open_connection("127.0.0.1", receiver.port)
    await wait_until(lambda: receiver.tunnels._doors.links)
    receiver.node.pass_time(HANDSHAKE_LIMIT_S)
    assert await reader.read() == b""
    writer.close()
    assert receiver.count("tunnel_failures", role="incoming", reason="timeout") == 1


async def test_a_client_of_another_protocol_is_closed(receiver):
    reader, writer = await asyncio.open_connection("127.0.0.1", receiver.port)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    await reader.read()
    writer.close()
    assert receiver.count("tunnel_failures", role="incoming", reason="handshake") == 1


async def test_a_handshake_without_settings_is_closed_in_time(authority, receiver):
    peer = RawPeer(authority.build_context("a", is_server=False))
    await peer.connect(receiver.port)
    await wait_until(lambda: receiver.count("tunnel_handshakes", role="incoming") == 1)
    receiver.node.pass_time(HANDSHAKE_LIMIT_S)
    await peer.read_to_end()
    peer.close()
    assert receiver.count("tunnel_failures", role="incoming", reason="timeout") == 1


async def test_unfinished_handshakes_are_limited_for_one_address(receiver, open_stream):
    clients = [socket.create_connection(("127.0.0.1", receiver.port)) for _ in range(HANDSHAKES_PER_ADDRESS + 5)]
    await wait_until(lambda: receiver.count("tunnel_failures", role="incoming", reason="limit") == 5)
    receiver.node.pass_time(HANDSHAKE_LIMIT_S)
    await open_stream()
    for client in clients:
        client.close()
    assert HANDSHAKES_PER_ADDRESS < HANDSHAKES_LIMIT


async def test_the_tunnels_of_one_node_are_limited(authority, receiver):
    receiver.tunnels._receiver.tunnels["a"] = TUNNELS_PER_NODE
    peer = RawPeer(authority.build_context("a", is_server=False))
    await peer.connect(receiver.port)
    await peer.read_to_end()
    peer.close()
    assert receiver.count("tunnel_failures", role="incoming", reason="limit") == 1
    del receiver.tunnels._receiver.tunnels["a"]


async def test_without_certificates_nobody_is_let_in(authority):
    node = TunnelNode("b")
    await node.listen()
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    assert await reader.read() == b""
    writer.close()
    assert node.count("tunnel_failures", role="incoming", reason="no certificate") == 1
    await node.close()


async def test_a_peer_that_does_not_read_is_not_read(raw, receiver):
    await wait_until(lambda: receiver.count("tunnels", role="incoming") == 1)
    (link,) = receiver.tunnels._doors.links
    raw.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    link.connection._control.earn(10**9)
    link.connection._control._limit = link.connection._control._left = 1e12
    pings = frame(h2.PING, 0, 0, b"flooding") * 3000
    sent = 0
    while not link._is_stalled:
        raw.tls.write(pings)
        data = raw.outgoing.read()
        sending = asyncio.create_task(raw.loop.sock_sendall(raw.sock, data))
        await asyncio.wait([sending], timeout=0.2)
        sent += 3000
        if not sending.done():
            break
    await wait_until(lambda: link._is_stalled)
    assert link.unsent_bytes < 2_000_000
    await raw.read_until(lambda frames: len(frames) >= 3000)
    await asyncio.wait([sending], timeout=60)
    sending.cancel()


@pytest.mark.parametrize(
    "fields",
    [
        ((b":method", b"GET"), (b":authority", b"10.1.0.1:80"), (b"maesh-protocol", b"tcp")),
        ((b":method", b"CONNECT"), (b":authority", b"host:80"), (b"maesh-protocol", b"tcp")),
    ],
)
async def test_an_open_that_is_not_valid_is_reset(raw, receiver, fields):
    await raw.send(frame(h2.HEADERS, h2.END_HEADERS, 1, raw.encoder.encode(fields)))
    frames = await raw.read_until(lambda frames: any(each[0] == h2.RST_STREAM for each in frames))
    assert (h2.RST_STREAM, 0, 1, h2.PROTOCOL_ERROR.to_bytes(4, "big")) in frames
    assert not receiver.rules.deliveries


async def test_rules_that_fail_let_nobody_in(authority, receiver):
    receiver.rules.identities = None
    peer = RawPeer(authority.build_context("a", is_server=False))
    await peer.connect(receiver.port)
    await peer.read_to_end()
    peer.close()
    assert receiver.count("tunnel_failures", role="incoming", reason="identity") == 1
