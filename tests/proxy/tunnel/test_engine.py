"""Tunnels between two nodes over real TLS: bytes, ends and resets, and what is refused."""

import asyncio
import random
import socket
import ssl
import struct

import pytest

from maesh_core.plugin_system.transports import OpenFailure, Refusal
from maesh_core.proxy.http.transports import reset as reset_transport
from maesh_core.proxy.tunnel.limits import FORMER_LIMIT_S, STREAM_LIMIT, STREAM_WINDOW_BYTES
from maesh_core.settings import ProxySettings
from maesh_testing import find_free_port

from .conftest import Recorder, TunnelNode, build_delivery, wait_until

loop = asyncio.get_running_loop


def reset(sock):
    """Close a socket with a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


async def receive(sock, size):
    data = bytearray()
    while len(data) < size:
        piece = await loop().sock_recv(sock, min(262144, size - len(data)))
        if not piece:
            break
        data += piece
    return bytes(data)


async def test_bytes_go_both_ways(open_stream):
    protocol, accepted = await open_stream()
    protocol.transport.write(b"question")
    assert await receive(accepted, 8) == b"question"
    await loop().sock_sendall(accepted, b"answer")
    await wait_until(lambda: protocol.data == b"answer")


@pytest.mark.parametrize("size", [1, 16384, 65536, 65537, 262144, 3_000_000])
async def test_bodies_of_any_size_are_the_same_bytes(open_stream, size):
    protocol, accepted = await open_stream()
    up, down = random.Random(size).randbytes(size), random.Random(-size).randbytes(size)
    protocol.transport.write(up)
    sending = asyncio.create_task(loop().sock_sendall(accepted, down))
    assert await receive(accepted, size) == up
    await sending
    await wait_until(lambda: len(protocol.data) == size)
    assert protocol.data == down


async def test_streams_beside_each_other_keep_their_bytes_apart(open_stream):
    pairs = [await open_stream() for _ in range(20)]
    bodies = [bytes([number + 1]) * (50_000 + 7919 * number) for number in range(20)]
    sending = [
        asyncio.create_task(loop().sock_sendall(accepted, body))
        for (_, accepted), body in zip(pairs, bodies, strict=True)
    ]
    for (protocol, _), body in zip(pairs, bodies, strict=True):
        for at in range(0, len(body), 1000):
            protocol.transport.write(body[at : at + 1000])
    for (_, accepted), body in zip(pairs, bodies, strict=True):
        assert await receive(accepted, len(body)) == body
    await asyncio.gather(*sending)
    for (protocol, _), body in zip(pairs, bodies, strict=True):
        await wait_until(lambda protocol=protocol, body=body: len(protocol.data) == len(body))
        assert protocol.data == body


async def test_streams_share_one_tls_connection(sender, receiver, open_stream):
    for _ in range(5):
        await open_stream()
    assert sender.count("tunnels", role="outgoing") == 1
    assert receiver.count("tunnels", role="incoming") == 1
    assert receiver.count("tunnel_streams", role="incoming") == 5
    assert sender.count("tunnel_handshakes", kind="full") == 1


async def test_the_rules_get_what_the_sender_asks_for(sender, receiver, pod):
    protocol = Recorder()
    delivery = build_delivery(pod.port, client="10.1.2.3", protocol="tcp")
    sender.tunnels.open(receiver.peer, delivery, protocol)
    await pod.accept()
    await wait_until(protocol.seen.is_set)
    assert receiver.rules.deliveries == [("a", delivery)]


# --- ends and resets


async def test_the_end_of_one_side_is_forwarded_alone(open_stream):
    protocol, accepted = await open_stream()
    protocol.keeps_open = True
    protocol.transport.write(b"last")
    protocol.transport.write_eof()
    assert await receive(accepted, 100) == b"last"
    await loop().sock_sendall(accepted, b"still here")
    accepted.shutdown(socket.SHUT_WR)
    await wait_until(lambda: protocol.has_ended)
    assert protocol.data == b"still here"
    await wait_until(lambda: protocol.lost == [None])


async def test_a_server_that_ends_first_can_still_be_written_to(sender, receiver, open_stream):
    protocol, accepted = await open_stream()
    protocol.keeps_open = True
    accepted.shutdown(socket.SHUT_WR)
    await wait_until(lambda: protocol.has_ended)
    protocol.transport.write(b"late")
    assert await receive(accepted, 4) == b"late"
    protocol.transport.write_eof()
    await wait_until(lambda: protocol.lost == [None])
    await wait_until(lambda: receiver.count("tunnel_streams", role="incoming") == 0)
    assert sender.count("tunnel_streams", role="outgoing") == 0


async def test_a_protocol_that_does_not_keep_its_side_open_closes_it(open_stream):
    protocol, accepted = await open_stream()
    await loop().sock_sendall(accepted, b"until the end")
    accepted.shutdown(socket.SHUT_WR)
    await wait_until(lambda: protocol.lost == [None])
    assert protocol.data == b"until the end"
    assert await receive(accepted, 1) == b""


async def test_a_reset_of_the_server_is_a_reset(open_stream):
    protocol, accepted = await open_stream()
    await loop().sock_sendall(accepted, b"cut")
    await wait_until(lambda: protocol.data == b"cut")
    reset(accepted)
    await wait_until(lambda: protocol.lost)
    assert isinstance(protocol.lost[0], ConnectionResetError)
    assert not protocol.has_ended


async def test_an_answer_before_a_reset_arrives(open_stream):
    protocol, accepted = await open_stream()
    protocol.transport.write(bytes(100_000))
    await receive(accepted, 1)
    await loop().sock_sendall(accepted, b"413 too large")
    accepted.close()  # with unread bytes, so that the kernel resets
    await wait_until(lambda: protocol.lost)
    assert protocol.data == b"413 too large"
    assert protocol.lost[0] is not None


async def test_a_stream_that_is_cut_resets_the_server(open_stream):
    protocol, accepted = await open_stream()
    protocol.transport.write(b"half a mess")
    assert await receive(accepted, 11) == b"half a mess"
    reset_transport(protocol.transport)
    with pytest.raises(ConnectionResetError):
        await receive(accepted, 1)
    assert protocol.lost == [None]


async def test_a_stream_that_is_aborted_without_unsent_bytes_ends_like_a_closed_socket(open_stream):
    protocol, accepted = await open_stream()
    protocol.transport.write(b"done")
    protocol.transport.abort()
    assert await receive(accepted, 100) == b"done"
    await wait_until(lambda: protocol.lost == [None])


async def test_closing_sends_everything_first(open_stream):
    protocol, accepted = await open_stream()
    body = random.Random(1).randbytes(2_000_000)
    protocol.transport.write(body)
    protocol.transport.close()
    assert protocol.transport.is_closing()
    assert await receive(accepted, len(body) + 1) == body
    await wait_until(lambda: protocol.lost == [None])


# --- back-pressure


async def test_a_server_that_does_not_read_stops_its_stream_only(open_stream):
    slow, slow_accepted = await open_stream()
    fast, fast_accepted = await open_stream()
    slow.transport.write(bytes(8_000_000))
    assert slow.paused == 1
    body = random.Random(2).randbytes(4_000_000)
    fast.transport.write(body)
    assert await receive(fast_accepted, len(body)) == body
    assert slow.transport.get_write_buffer_size() > 0
    assert len(await receive(slow_accepted, 8_000_000)) == 8_000_000
    await wait_until(lambda: slow.resumed == 1)


async def test_a_protocol_that_does_not_read_stops_its_stream_only(receiver, open_stream):
    slow, slow_accepted = await open_stream()
    fast, fast_accepted = await open_stream()
    slow.transport.pause_reading()
    body = random.Random(3).randbytes(8_000_000)
    sending = asyncio.create_task(loop().sock_sendall(slow_accepted, body))
    await loop().sock_sendall(fast_accepted, bytes(3_000_000))
    await wait_until(lambda: len(fast.data) == 3_000_000)
    assert not slow.data
    assert not sending.done()
    slow.transport.resume_reading()
    await sending
    await wait_until(lambda: len(slow.data) == len(body))
    assert slow.data == body


async def test_what_was_kept_is_reported_before_the_end(open_stream):
    protocol, accepted = await open_stream()
    protocol.transport.pause_reading()
    await loop().sock_sendall(accepted, b"all of it")
    accepted.shutdown(socket.SHUT_WR)
    await asyncio.sleep(0.05)
    assert not protocol.data
    assert not protocol.has_ended
    protocol.transport.resume_reading()
    await wait_until(lambda: protocol.lost == [None])
    assert protocol.data == b"all of it"


# --- refusals


@pytest.mark.parametrize(
    ("status", "is_servers_fault"), [(403, False), (404, False), (502, True), (503, False), (504, True)]
)
async def test_a_refusal_arrives_with_its_status_and_reason(sender, receiver, pod, status, is_servers_fault):
    receiver.rules.refusal = Refusal(status, "the reason")
    protocol = Recorder()
    opening = sender.tunnels.open(receiver.peer, build_delivery(pod.port), protocol)
    assert not opening.has_connection
    await wait_until(protocol.seen.is_set)
    assert protocol.failure == OpenFailure("the reason", status, is_servers_fault)
    assert receiver.count("tunnel_refusals", role="incoming", status=str(status)) == 1
    assert sender.count("tunnel_refusals", role="outgoing", status=str(status)) == 1
    await wait_until(lambda: receiver.count("tunnel_streams", role="incoming") == 0)
    assert sender.count("tunnels", role="outgoing") == 1


async def test_rules_that_fail_refuse(sender, receiver, pod):
    receiver.rules.error = ZeroDivisionError("oops")
    protocol = Recorder()
    sender.tunnels.open(receiver.peer, build_delivery(pod.port), protocol)
    await wait_until(protocol.seen.is_set)
    assert protocol.failure.status == 503


async def test_a_pod_that_refuses_is_its_fault(sender, receiver):
    protocol = Recorder()
    sender.tunnels.open(receiver.peer, build_delivery(find_free_port()), protocol)
    await wait_until(protocol.seen.is_set)
    assert (protocol.failure.status, protocol.failure.is_servers_fault) == (502, True)


async def test_a_pod_that_does_not_accept_in_time_is_its_fault(sender, receiver):
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        protocol = Recorder()
        opening = sender.tunnels.open(receiver.peer, build_delivery(full.getsockname()[1]), protocol)
        await wait_until(lambda: receiver.rules.deliveries)
        await wait_until(lambda: opening.has_connection)
        receiver.node.pass_time(6)
        await wait_until(protocol.seen.is_set)
        for filler in fillers:
            filler.close()
    assert (protocol.failure.status, protocol.failure.is_servers_fault) == (504, True)


async def test_a_cancelled_open_calls_nothing(sender, receiver, pod):
    receiver.rules.gate = asyncio.Event()
    protocol = Recorder()
    opening = sender.tunnels.open(receiver.peer, build_delivery(pod.port), protocol)
    await wait_until(lambda: receiver.rules.deliveries)
    opening.cancel()
    await wait_until(lambda: receiver.count("tunnel_streams", role="incoming") == 0)
    assert not protocol.seen.is_set()
    assert sender.count("tunnel_streams", role="outgoing") == 0


async def test_an_open_that_is_cancelled_before_the_connection_calls_nothing(sender, receiver, pod):
    protocol = Recorder()
    sender.tunnels.open(receiver.peer, build_delivery(pod.port), protocol).cancel()
    other = Recorder()
    sender.tunnels.open(receiver.peer, build_delivery(pod.port), other)
    await wait_until(other.seen.is_set)
    assert not protocol.seen.is_set()


async def test_a_node_may_use_a_quarter_of_the_connections(sender, receiver, pod):
    receiver.node.settings = ProxySettings(connection_limit=8)
    protocols = [Recorder() for _ in range(3)]
    for protocol in protocols:
        sender.tunnels.open(receiver.peer, build_delivery(pod.port), protocol)
    for protocol in protocols:
        await wait_until(protocol.seen.is_set)
    assert [protocol.failure and protocol.failure.status for protocol in protocols] == [None, None, 503]


# --- connections


async def test_without_certificates_nothing_is_opened(receiver, pod):
    node = TunnelNode("a")
    protocol = Recorder()
    node.tunnels.open(receiver.peer, build_delivery(pod.port), protocol)
    await wait_until(protocol.seen.is_set)
    assert protocol.failure == OpenFailure("this node has no valid certificate", 0, is_servers_fault=False)
    await node.close()


async def test_a_node_that_cannot_be_reached_fails_the_open(sender, receiver, pod):
    protocol = Recorder()
    sender.tunnels.open(receiver.peer._replace(port=find_free_port()), build_delivery(pod.port), protocol)
    await wait_until(protocol.seen.is_set)
    assert protocol.failure == OpenFailure("no connection to the node (connect)", 0, is_servers_fault=False)
    assert sender.count("tunnel_failures", role="outgoing", reason="connect") == 1


async def test_the_addresses_of_a_node_are_tried_in_order(sender, receiver, pod):
    protocol = Recorder()
    peer = receiver.peer._replace(addresses=("127.0.0.99", "127.0.0.1"))
    receiver_port = receiver.port
    assert receiver_port
    sender.tunnels.open(peer, build_delivery(pod.port), protocol)
    await wait_until(protocol.seen.is_set)
    assert protocol.failure is None
    assert sender.count("tunnel_failures", role="outgoing", reason="connect") == 1


async def test_a_receiver_that_goes_away_gets_no_further_streams(sender, receiver, pod, open_stream):
    protocol, accepted = await open_stream()
    receiver.tunnels.start_draining()
    await wait_until(lambda: sender.tunnels._pools["b"]._connections == [])
    protocol.transport.write(b"goes on")
    assert await receive(accepted, 7) == b"goes on"
    assert not receiver.tunnels.is_drained()
    protocol.transport.abort()
    await wait_until(receiver.tunnels.is_drained)
    assert sender.count("tunnels", role="outgoing") == 0


async def test_a_protocol_is_told_when_its_tunnel_is_to_be_replaced(receiver, open_stream):
    protocol, _ = await open_stream()
    told = []
    protocol.path_retired = lambda: told.append(1)
    receiver.tunnels.start_draining()
    await wait_until(lambda: told)
    assert told == [1]
    assert not protocol.transport.is_closing()


async def test_a_stream_that_crosses_the_drain_is_opened_on_a_new_connection(sender, receiver, pod, open_stream):
    await open_stream()
    receiver.tunnels.start_draining()
    protocol = Recorder()
    sender.tunnels.open(receiver.peer, build_delivery(pod.port), protocol)  # before GOAWAY has arrived
    await pod.accept()
    await wait_until(protocol.seen.is_set)
    assert protocol.failure is None
    assert sender.count("tunnel_handshakes", role="outgoing") == 2


async def test_new_certificates_replace_connections_without_failing_streams(sender, receiver, authority, open_stream):
    protocol, accepted = await open_stream()
    sender.tunnels.use(*authority.build_contexts("a"))
    receiver.tunnels.use(*authority.build_contexts("b"))
    other, _ = await open_stream()
    assert other.failure is None
    assert sender.count("tunnels", role="outgoing") == 2
    protocol.transport.write(b"old")
    assert await receive(accepted, 3) == b"old"
    protocol.transport.close()
    await wait_until(lambda: sender.count("tunnels", role="outgoing") == 1)
    await wait_until(lambda: receiver.count("tunnels", role="incoming") == 1)


@pytest.mark.parametrize("end", ["sender", "receiver"])
async def test_older_tunnels_end_with_their_streams_when_an_authority_is_not_trusted_any_more(
    sender, receiver, authority, open_stream, end
):
    protocol, _ = await open_stream()
    sender.tunnels.use(*authority.build_contexts("a"))
    receiver.tunnels.use(*authority.build_contexts("b"))
    node, name = (sender, "a") if end == "sender" else (receiver, "b")
    node.tunnels.use(*authority.build_contexts(name), trusts_less=True)
    newer, _ = await open_stream()
    for link in (*node.tunnels._doors.links, *(link for pool in node.tunnels._pools.values() for link in pool._links)):
        link.connection.received_at = node.node.clock.now + FORMER_LIMIT_S
    node.tunnels._sweep(node.node.clock.now + FORMER_LIMIT_S - 1)
    assert protocol.lost == []
    node.tunnels._sweep(node.node.clock.now + FORMER_LIMIT_S)
    await wait_until(lambda: protocol.lost)
    assert newer.lost == []


async def test_a_later_connection_resumes_the_session(sender, receiver, open_stream):
    protocol, _ = await open_stream()
    receiver.tunnels.start_draining()
    protocol.transport.abort()
    await wait_until(receiver.tunnels.is_drained)
    await open_stream()
    assert sender.count("tunnel_handshakes", kind="resumed") == 1
    assert receiver.count("tunnel_handshakes", kind="resumed") == 1


async def test_a_dropped_node_is_reset_both_ways(sender, receiver, open_stream):
    protocol, accepted = await open_stream()
    receiver.tunnels.drop("a")
    await wait_until(lambda: protocol.lost)
    assert isinstance(protocol.lost[0], ConnectionError)
    with pytest.raises(ConnectionResetError):
        await receive(accepted, 1)
    other, other_accepted = await open_stream()
    sender.tunnels.drop("b")
    await wait_until(lambda: other.lost)
    with pytest.raises(ConnectionResetError):
        await receive(other_accepted, 1)


async def test_an_unused_connection_is_closed_after_a_while(sender, receiver, open_stream):
    protocol, _ = await open_stream()
    protocol.transport.abort()
    await wait_until(lambda: receiver.count("tunnel_streams", role="incoming") == 0)
    sender.node.pass_time(601)
    await wait_until(lambda: receiver.count("tunnels", role="incoming") == 0)
    assert sender.count("tunnels", role="outgoing") == 0
    assert not sender.count("tunnel_failures")


async def test_more_streams_than_one_connection_has_open_another(sender, receiver, pod, open_stream, monkeypatch):
    await open_stream()
    (connection,) = sender.tunnels._pools["b"]._connections
    connection.peer_stream_limit = 1
    await open_stream()
    assert sender.count("tunnels", role="outgoing") == 2


async def test_at_most_four_connections_go_to_one_node(sender, receiver, pod, open_stream):
    for _ in range(4):
        await open_stream()
        for connection in sender.tunnels._pools["b"]._connections:
            connection.peer_stream_limit = 1
    protocol = Recorder()
    sender.tunnels.open(receiver.peer, build_delivery(pod.port), protocol)
    await wait_until(protocol.seen.is_set)
    assert protocol.failure == OpenFailure("every connection to the node is full", 0, is_servers_fault=False)


async def test_contexts_that_do_not_verify_are_refused(sender, authority):
    client, server = authority.build_contexts("a")
    server.verify_mode = ssl.CERT_OPTIONAL
    with pytest.raises(ValueError, match="certificate"):
        sender.tunnels.use(client, server)
    client.minimum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ValueError, match="TLS"):
        sender.tunnels.use(client, server)


async def test_an_error_of_one_protocol_ends_only_its_stream(open_stream):
    broken, broken_accepted = await open_stream()
    fine, fine_accepted = await open_stream()

    def fail(data):
        raise ZeroDivisionError

    broken.data_received = fail
    await loop().sock_sendall(broken_accepted, b"x")
    await loop().sock_sendall(fine_accepted, b"y")
    await wait_until(lambda: fine.data == b"y")
    await wait_until(lambda: broken.lost)
    with pytest.raises(ConnectionResetError):
        await receive(broken_accepted, 1)


async def test_an_open_that_is_cancelled_after_it_has_failed_calls_nothing(sender, receiver, pod):
    node = TunnelNode("a")
    protocol = Recorder()
    node.tunnels.open(receiver.peer, build_delivery(pod.port), protocol).cancel()
    await asyncio.sleep(0.01)
    assert not protocol.seen.is_set()
    await node.close()


async def test_certificates_that_come_during_a_handshake_do_not_fail_the_open(sender, receiver, authority, pod):
    protocol = Recorder()
    sender.tunnels.open(receiver.peer, build_delivery(pod.port), protocol)
    for _ in range(4):
        sender.tunnels.use(*authority.build_contexts("a"))
        await asyncio.sleep(0)
    await wait_until(protocol.seen.is_set)
    assert protocol.failure is None
    assert await pod.accept()


async def test_an_address_that_a_node_loses_gets_no_further_streams(sender, receiver, open_stream, pod):
    protocol, accepted = await open_stream()
    other = Recorder()
    sender.tunnels.open(receiver.peer._replace(addresses=("127.0.0.2",)), build_delivery(pod.port), other)
    await wait_until(other.seen.is_set)
    assert other.failure.status == 0
    protocol.transport.write(b"goes on")
    assert await receive(accepted, 7) == b"goes on"


async def test_the_last_bytes_of_a_closed_stream_wait_for_a_slow_pod(receiver, open_stream):
    protocol, accepted = await open_stream()
    fill_pod(protocol)
    await wait_until(lambda: protocol.transport.get_write_buffer_size() == 0 or protocol.paused)
    protocol.transport.write_eof()
    size = protocol.sent_bytes
    protocol.transport.close()
    assert len(await receive(accepted, size + 1)) == size
    await wait_until(lambda: receiver.count("tunnel_streams", role="incoming") == 0)
    assert not receiver.tunnels._receiver.closing


def fill_pod(protocol):
    """Write more than the pod's kernel buffers keep."""
    protocol.sent_bytes = 40 * STREAM_WINDOW_BYTES
    protocol.transport.write(bytes(protocol.sent_bytes))


@pytest.mark.slow
async def test_all_streams_of_a_tunnel_can_be_open_at_once(sender, receiver, pod):
    streams = STREAM_LIMIT
    protocols = [Recorder() for _ in range(streams)]
    receiver.node.settings = ProxySettings(connection_limit=0)
    for protocol in protocols:
        sender.tunnels.open(receiver.peer, build_delivery(pod.port), protocol)
    accepted = [await pod.accept() for _ in protocols]
    for number, protocol in enumerate(protocols):
        await wait_until(protocol.seen.is_set)
        protocol.transport.write(b"%05d" % number)
    received = {await receive(each, 5) for each in accepted}
    assert received == {b"%05d" % number for number in range(streams)}
    assert sender.count("tunnels", role="outgoing") == 1


async def test_a_stream_that_the_rules_are_still_asked_about_ends_with_its_tunnel(sender, receiver, pod):
    receiver.rules.gate = asyncio.Event()
    protocol = Recorder()
    sender.tunnels.open(receiver.peer, build_delivery(pod.port), protocol)
    await wait_until(lambda: receiver.rules.deliveries)
    receiver.tunnels.drop("a")
    await wait_until(lambda: len(receiver.rules.deliveries) == 2)  # it is opened once more
    receiver.tunnels.drop("a")
    await wait_until(protocol.seen.is_set)
    assert protocol.failure.status == 0
    receiver.rules.gate.set()


async def test_a_tunnel_that_ends_with_many_opens_under_way_reports_each_once(sender, receiver, pod):
    receiver.rules.gate = asyncio.Event()
    protocols = [Recorder() for _ in range(50)]
    openings = [sender.tunnels.open(receiver.peer, build_delivery(pod.port), each) for each in protocols]
    await wait_until(lambda: len(receiver.rules.deliveries) == 50)
    for opening in openings[::2]:
        opening.cancel()
    sender.tunnels.drop("b")
    await wait_until(lambda: all(protocol.failure is not None for protocol in protocols[1::2]))
    assert all(protocol.failure is None for protocol in protocols[::2])
