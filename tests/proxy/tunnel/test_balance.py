"""Tunnels of a node spread over the workers of the receiver, which share a port."""

import asyncio
import socket
from typing import Any

import pytest

from maesh_core.plugin_system.transports import Peer
from maesh_core.proxy.tunnel.balance import WorkerBalance
from maesh_core.proxy.tunnel.engine import TunnelEngine
from maesh_core.proxy.tunnel.limits import BALANCE_INTERVAL_S
from maesh_core.settings import ProxySettings
from maesh_testing import FakeNode

from .conftest import Recorder, Rules, build_delivery, wait_until
from .node_certificates import build_identity


class Connection:
    def __init__(self):
        self.is_retired = False

    def retire(self):
        self.is_retired = True


def build(count):
    return [Connection() for _ in range(count)]


def test_a_worker_with_two_more_than_another_has_its_youngest_replaced():
    node = FakeNode(workers=2)
    other = node.get_worker(1)
    balances = [WorkerBalance(node), WorkerBalance(other)]
    for own, expected in ((0, 0), (1, 0), (2, 1), (5, 1)):
        connections = build(own)
        node.clock.now += BALANCE_INTERVAL_S
        balances[1].sweep(node.clock.now, build(0))
        balances[0].sweep(node.clock.now, connections)
        assert [each.is_retired for each in connections] == [False] * (own - expected) + [True] * expected
    for balance in balances:
        balance.close()


def test_between_two_checks_nothing_is_replaced():
    node = FakeNode(workers=2)
    balance, connections = WorkerBalance(node), build(9)
    balance.sweep(node.clock.now + BALANCE_INTERVAL_S - 1, connections)
    assert not any(each.is_retired for each in connections)
    balance.close()


def test_the_only_worker_replaces_nothing():
    node, connections = FakeNode(), build(9)
    balance = WorkerBalance(node)
    balance.sweep(node.clock.now + 100, connections)
    assert not any(each.is_retired for each in connections)
    balance.close()


def listen(port=0):
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.setblocking(False)
    sock.bind(("127.0.0.1", port))
    sock.listen(64)
    return sock


@pytest.mark.slow
async def test_tunnels_spread_over_the_workers_of_the_receiver(authority, pod):
    first = FakeNode(workers=2, settings=ProxySettings())
    nodes = [first, first.get_worker(1)]
    receivers = [TunnelEngine(node, Rules()) for node in nodes]
    senders = [TunnelEngine(FakeNode(settings=ProxySettings()), Rules()) for _ in range(4)]
    sockets = [listen()]
    sockets.append(listen(sockets[0].getsockname()[1]))
    peer = Peer("b", ("127.0.0.1",), sockets[0].getsockname()[1], build_identity("b"))
    listeners = [await each.open_listener(sock, 15008) for each, sock in zip(receivers, sockets, strict=True)]
    for engine, name in (*((each, "b") for each in receivers), *((each, "a") for each in senders)):
        engine.use(*authority.build_contexts(name))

    async def open_streams():
        recorders = [Recorder() for _ in senders]
        for sender, recorder in zip(senders, recorders, strict=True):
            sender.open(peer, build_delivery(pod.port), recorder)
            await pod.accept()
        await wait_until(lambda: all(each.seen.is_set() for each in recorders))
        assert [each.failure for each in recorders] == [None] * len(senders)
        return recorders

    streams = await open_streams()
    for _ in range(200):
        numbers = [len(each._doors.list_accepting()) for each in receivers]
        if numbers == [2, 2]:
            break
        first.pass_time(BALANCE_INTERVAL_S)
        streams += await open_streams()
        await asyncio.sleep(0)
    assert numbers == [2, 2]
    assert not any(each.lost for each in streams)
    for engine in (*senders, *receivers):
        engine.abort()
    for listener in listeners:
        listener.close()
    await asyncio.sleep(0)
    for node in nodes:
        node.close()
    for sender in senders:
        own: Any = sender.environment.node
        own.close()
