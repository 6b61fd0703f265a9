"""Opening streams through tunnels between two nodes: what is opened, what is refused, and what is cancelled."""

import asyncio
import socket
import ssl

import pytest

from maesh_core.plugin_system.transports import OpenFailure, Refusal
from maesh_core.proxy.tunnel.limits import STREAM_LIMIT
from maesh_core.settings import ProxySettings
from maesh_testing import find_free_port

from .conftest import Recorder, TunnelNode, build_delivery, wait_until
from .pod_sockets import receive


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


async def test_contexts_that_do_not_verify_are_refused(sender, authority):
    client, server = authority.build_contexts("a")
    server.verify_mode = ssl.CERT_OPTIONAL
    with pytest.raises(ValueError, match="certificate"):
        sender.tunnels.use(client, server)
    client.minimum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ValueError, match="TLS"):
        sender.tunnels.use(client, server)


async def test_an_open_that_is_cancelled_after_it_has_failed_calls_nothing(sender, receiver, pod):
    node = TunnelNode("a")
    protocol = Recorder()
    node.tunnels.open(receiver.peer, build_delivery(pod.port), protocol).cancel()
    await asyncio.sleep(0.01)
    assert not protocol.seen.is_set()
    await node.close()


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
