"""How long sessions live: the idle time-out, the session limit, and detached sessions."""

import errno
import resource
import socket

import pytest
from maesh_udp import UdpSettings
from maesh_udp.proxy import UdpHandler

from maesh_testing import FakeNode

from .asking import ask


async def test_a_session_ends_after_the_idle_time_out(build_world):
    world = build_world(session_timeout=30.0)
    world.serve("a")
    port, client = await world.listen(), world.open()
    first = await ask(world, client, port)
    world.node.pass_time(20)
    assert await ask(world, client, port) == first
    world.node.pass_time(29)
    assert len(world.handler.sessions) == 1
    world.node.pass_time(2)
    assert not world.handler.sessions
    world.servers["a"].sendto(b"too late", first)
    await world.settle()
    assert world.is_silent(client)
    await ask(world, client, port)
    assert world.count("sessions") == 2


async def test_the_longest_idle_session_is_evicted_at_the_limit(build_world):
    world = build_world(session_limit=3)
    world.serve("a")
    port, clients = await world.listen(), [world.open() for _ in range(4)]
    for client in clients[:3]:
        await ask(world, client, port)
        world.node.pass_time(1)
    peers = [await ask(world, client, port) for client in (clients[0], clients[2])]
    world.node.pass_time(1)
    await ask(world, clients[3], port)
    assert world.count("evicted_sessions") == 1
    assert [await ask(world, client, port) for client in (clients[0], clients[2])] == peers


async def test_a_flood_of_new_clients_does_not_exceed_the_session_limit(build_world):
    world = build_world(session_limit=10)
    world.serve("a")
    port = await world.listen()
    for number in range(300):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.bind((f"127.0.9.{number % 200 + 1}", 0))
            client.sendto(b"x", ("127.0.0.1", port))
        if not number % 50:
            await world.settle()
    await world.settle()
    assert len(world.handler.sessions) == 10
    assert len(world.listeners[0].sessions) == 10
    assert world.count("evicted_sessions") == 290


async def test_sessions_leave_descriptors_to_others(monkeypatch, build_world):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    assert build_world().handler.sessions.limit == 768


@pytest.mark.parametrize(
    ("text", "workers", "limit"),
    [("10000\t10999\n", 1, 750), ("10000 10999", 3, 250), ("nonsense", 1, 21_174), ("9 9", 4, 1)],
)
async def test_sessions_leave_ports_to_others(monkeypatch, tmp_path, text, workers, limit):
    path = tmp_path / "ports"
    path.write_text(text)
    monkeypatch.setattr("maesh_udp.session_lifetime._PORT_RANGE", path)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1_000_000, 1_000_000))
    node = FakeNode(workers)
    assert UdpHandler(UdpSettings(), node).sessions.limit == limit
    node.close()


async def test_the_longest_idle_session_is_evicted_when_no_descriptor_is_free(world, monkeypatch):
    world.serve("a")
    port, one, other = await world.listen(), world.open(), world.open()
    await ask(world, one, port)
    real, failures = socket.SocketType, [errno.EMFILE]

    def build(*arguments):
        if failures:
            raise OSError(failures.pop(), "no more")
        return real(*arguments)

    monkeypatch.setattr("maesh_udp.session.socket.SocketType", build)
    await ask(world, other, port)
    assert (world.count("evicted_sessions"), len(world.handler.sessions)) == (1, 1)


async def test_a_detached_session_leaves_its_clients_newer_one_alone_whatever_changes_next(world):
    world.serve("a", "b")
    port, client = await world.listen(), world.open()
    peer = await ask(world, client, port)
    world.serve("b")
    newer = await ask(world, client, port, server="b")
    world.servers["a"].sendto(b"still here", peer)
    await world.receive(client)
    for _ in range(2):
        world.serve("b")
        assert await ask(world, client, port, server="b") == newer


async def test_a_detached_session_ends_however_long_its_server_talks(world):
    world.serve("a")
    port, client = await world.listen(), world.open()
    peer = await ask(world, client, port)
    world.listeners[0].close()
    for _ in range(4):
        world.servers["a"].sendto(b"and another thing", peer)
        await world.settle()
        world.node.pass_time(1.0)
    assert world.handler.is_drained()
    assert world.listeners[0]._sock.fileno() == -1
