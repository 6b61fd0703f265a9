"""When tunnels are replaced and end: drains, certificates, lost addresses, idle time, and how many go to one node."""

import asyncio

import pytest

from maesh_core.plugin_system.transports import OpenFailure
from maesh_core.proxy.tunnel.limits import FORMER_LIMIT_S

from .conftest import Recorder, build_delivery, wait_until
from .pod_sockets import receive


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
