"""Sessions through real sockets: who gets which datagram, and what ends a session."""

import errno
import random
import resource
import socket

import pytest
from maesh_udp import UdpSettings
from maesh_udp.batches import BATCH
from maesh_udp.proxy import UdpHandler

from maesh_testing import FakeNode


async def ask(world, client, port, data=b"?", server="a"):
    """Send a datagram, see it at a server, answer; gives the address that the server saw."""
    client.sendto(data, ("127.0.0.1", port))
    got, peer = await world.receive(world.servers[server])
    assert got == data
    world.servers[server].sendto(b"re: " + data[:100], peer)
    assert await world.receive(client) == (b"re: " + data[:100], ("127.0.0.1", port))
    return peer


@pytest.mark.parametrize("size", [0, 1, 1472, 9000, 65507])
async def test_datagrams_of_any_size_pass_whole_both_ways(world, size):
    world.serve("a")
    port, client, data = await world.listen(), world.open(), random.randbytes(size)
    client.sendto(data, ("127.0.0.1", port))
    got, peer = await world.receive(world.servers["a"])
    assert got == data
    world.servers["a"].sendto(data[::-1], peer)
    assert (await world.receive(client))[0] == data[::-1]


async def test_a_client_stays_with_its_server_and_others_take_turns(world):
    world.serve("a", "b")
    port, one, other = await world.listen(), world.open(), world.open()
    assert await ask(world, one, port) == await ask(world, one, port)
    await ask(world, other, port, server="b")
    await ask(world, one, port)
    assert world.count("sessions") == 2
    assert (world.count("received_datagrams"), world.count("received_bytes")) == (4, 4)
    assert (world.count("sent_datagrams"), world.count("sent_bytes")) == (4, 20)


async def test_servers_take_clients_by_weight(world):
    world.serve("a", "b", weights=[3, 1])
    port = await world.listen()
    for client in [world.open() for _ in range(8)]:
        client.sendto(b"x", ("127.0.0.1", port))
    await world.settle()
    counts = {}
    for name in "ab":
        counts[name] = 0
        while not world.is_silent(world.servers[name]):
            world.servers[name].recv(10)
            counts[name] += 1
    assert counts == {"a": 6, "b": 2}


async def test_more_datagrams_than_one_batch_all_arrive_in_order(world):
    world.serve("a")
    port, client, server = await world.listen(), world.open(), world.servers["a"]
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    for number in range(BATCH * 2 + 7):
        client.sendto(b"%d" % number, ("127.0.0.1", port))
    for number in range(BATCH * 2 + 7):
        data, peer = await world.receive(server)
        assert data == b"%d" % number
        server.sendto(data, peer)
    for number in range(BATCH * 2 + 7):
        assert (await world.receive(client))[0] == b"%d" % number


async def test_two_entrypoints_never_mix_their_clients(world):
    world.serve("a")
    ports, client = [await world.listen(), await world.listen()], world.open()
    peers = {await ask(world, client, port) for port in ports}
    assert len(peers) == 2
    for peer in peers:
        world.servers["a"].sendto(b"both at once", peer)
    assert {(await world.receive(client))[1][1] for _ in ports} == set(ports)


async def test_nobody_but_the_server_can_answer_and_nobody_who_was_silent_is_answered(world):
    world.serve("a")
    port, client, stranger = await world.listen(), world.open(), world.open()
    peer = await ask(world, client, port)
    stranger.sendto(b"spoofed", peer)
    await world.settle()
    assert world.is_silent(client)
    assert world.is_silent(stranger)


async def test_a_session_ends_when_it_was_idle_for_too_long(build_world):
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


async def test_of_too_many_sessions_the_longest_idle_gives_way(build_world):
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


async def test_a_flood_of_new_clients_leaves_no_more_sessions_than_there_may_be(build_world):
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


async def test_without_descriptors_the_oldest_session_gives_way(world, monkeypatch):
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


async def test_a_server_that_is_gone_ends_the_session_and_the_next_one_gets_the_datagram(world):
    world.serve("a", "b")
    port, client = await world.listen(), world.open()
    await ask(world, client, port)
    world.servers["a"].close()
    client.sendto(b"into the void", ("127.0.0.1", port))
    await world.settle()
    assert world.count("failed_sessions") == 1
    await ask(world, client, port, server="b")
    for other in [world.open() for _ in range(4)]:
        await ask(world, other, port, server="b")  # the one that failed is set aside


async def test_a_client_loses_nothing_to_a_server_that_was_dead_from_the_start_nor_to_its_trials(world):
    world.serve("a", "b")
    world.servers["a"].close()
    port = await world.listen()
    for _ in range(20):
        await ask(world, world.open(), port, server="b")
        world.node.pass_time(1.5)
    assert world.count("failed_sessions") == 1
    assert world.is_silent(world.servers["b"])


async def test_a_client_of_a_server_that_dies_loses_one_datagram_whatever_other_ports_it_sends_from(world):
    world.serve("a", "b")
    port, clients = await world.listen(), [world.open() for _ in range(6)]
    for client, server in zip(clients, "ababab", strict=True):
        await ask(world, client, port, server=server)
    world.servers["a"].close()
    clients[0].sendto(b"into the void", ("127.0.0.1", port))
    await world.settle()
    for client in clients:
        await ask(world, client, port, server="b")


async def test_a_server_that_comes_back_is_tried_with_a_copy_whose_answer_reaches_nobody(world):
    world.serve("a", "b")
    port, address = await world.listen(), world.servers["a"].getsockname()
    world.servers["a"].close()
    await ask(world, world.open(), port, server="b")
    world.node.pass_time(1.5)
    back = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    back.bind(address)
    back.setblocking(False)
    world.servers["a"] = back
    world.sockets.append(back)
    clients = []
    while world.is_silent(back):
        clients.append(world.open())
        await ask(world, clients[-1], port, server="b")
    data, peer = await world.receive(back)
    assert data == b"?"
    back.sendto(b"from the trial", peer)
    await world.settle()
    assert all(world.is_silent(client) for client in clients)
    assert not world.handler.trials
    clients = [world.open() for _ in range(2)]
    for client in clients:
        client.sendto(b"!", ("127.0.0.1", port))
    assert (await world.receive(back))[0] == b"!"


async def test_an_entrypoint_that_has_closed_sends_nothing_again(world):
    world.serve("a", "b")
    port, client = await world.listen(), world.open()
    client.sendto(b"first", ("127.0.0.1", port))
    await world.receive(world.servers["a"])
    (session,) = world.handler.sessions
    world.listeners[0].close()
    session.fail()
    await world.settle()
    assert world.is_silent(world.servers["b"])
    assert world.handler.is_drained()


async def test_a_lonely_server_is_asked_however_often_it_failed(world):
    world.serve("a")
    port, client = await world.listen(), world.open()
    address = world.servers["a"].getsockname()
    world.servers["a"].close()
    for _ in range(3):
        client.sendto(b"x", ("127.0.0.1", port))
        await world.settle()
    assert world.count("failed_sessions") == 3
    world.servers["a"] = world.open()
    world.servers["a"].close()
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(address)
    world.servers["a"] = sock
    world.sockets.append(sock)
    await ask(world, client, port)


async def test_a_service_without_servers_or_an_entrypoint_without_service_drops(world):
    port, client = await world.listen(), world.open()
    client.sendto(b"x", ("127.0.0.1", port))
    await world.settle()
    assert world.count("unrouted_datagrams") == 1
    world.serve()
    client.sendto(b"x", ("127.0.0.1", port))
    await world.settle()
    assert world.count("refused_sessions") == 1
    assert not world.handler.sessions


class Gate:
    """Lets in and keeps whom it is told to."""

    def __init__(self):
        self.is_open = True
        self.seen = []

    def on_connect(self, connection):
        self.seen.append((connection.client_address, connection.entrypoint, connection.service, connection.exchange))
        return self.is_open

    def is_still_allowed(self, connection):
        return self.is_open


async def test_a_middleware_sees_each_new_session_once_and_can_refuse_it(world):
    gate = Gate()
    world.serve("a", middlewares=[gate])
    port, client, other = await world.listen(), world.open(), world.open()
    for _ in range(3):
        await ask(world, client, port)
    assert gate.seen == [("127.0.0.1", 15000, "test/dns:53", None)]
    gate.is_open = False
    other.sendto(b"x", ("127.0.0.1", port))
    await world.settle()
    assert world.is_silent(world.servers["a"])
    assert world.count("denied_sessions") == 1


async def test_a_session_that_may_not_stay_ends_at_the_next_change(world):
    gate = Gate()
    world.serve("a", middlewares=[gate])
    port, client = await world.listen(), world.open()
    peer = await ask(world, client, port)
    world.serve("a", middlewares=[gate])
    assert await ask(world, client, port) == peer
    gate.is_open = False
    world.serve("a", middlewares=[gate])
    assert not world.handler.sessions


async def test_a_server_that_leaves_still_answers_and_is_sent_nothing_more(world):
    world.serve("a", "b")
    port, client = await world.listen(), world.open()
    client.sendto(b"first", ("127.0.0.1", port))
    _, peer = await world.receive(world.servers["a"])
    world.serve("b")
    await ask(world, client, port, server="b")
    world.servers["a"].sendto(b"late, but right", peer)
    assert (await world.receive(client))[0] == b"late, but right"
    world.node.pass_time(3)
    assert len(world.handler.sessions) == 1


async def test_an_entrypoint_that_closes_takes_nothing_and_passes_on_what_was_asked_before(world):
    world.serve("a")
    port, client = await world.listen(), world.open()
    client.sendto(b"first", ("127.0.0.1", port))
    _, peer = await world.receive(world.servers["a"])
    world.listeners[0].close()
    world.handler.start_draining()
    assert not world.handler.is_drained()
    assert world.handler.count_under_way() == 1
    client.sendto(b"second", ("127.0.0.1", port))
    await world.settle()
    assert world.is_silent(world.servers["a"])
    world.servers["a"].sendto(b"answer", peer)
    assert (await world.receive(client))[0] == b"answer"
    world.node.pass_time(1.5)
    assert world.handler.is_drained()
    assert world.listeners[0]._sock.fileno() == -1


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.77"])
async def test_on_all_addresses_an_answer_comes_from_the_one_that_was_asked(world, address):
    world.serve("a")
    port, client = await world.listen("0.0.0.0"), world.open("127.0.0.50")
    client.connect((address, port))
    client.send(b"x")
    _, peer = await world.receive(world.servers["a"])
    world.servers["a"].sendto(b"y", peer)
    assert await world.receive(client) == (b"y", (address, port))


async def test_on_all_addresses_one_client_has_a_session_with_each_that_it_asked(world):
    world.serve("a", "b")
    port, client = await world.listen("0.0.0.0"), world.open("127.0.0.50")
    for address, server in (("127.0.0.1", "a"), ("127.0.0.2", "b"), ("127.0.0.1", "a")):
        client.sendto(b"x", (address, port))
        await world.receive(world.servers[server])
    assert [session.client_address for session in world.handler.sessions] == ["127.0.0.50"] * 2


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
@pytest.mark.parametrize("bind", ["::1", "::"])
async def test_ipv6_clients_are_served_by_ipv4_servers(world, bind):
    world.serve("a")
    port, client = await world.listen(bind, socket.AF_INET6), world.open("::1", socket.AF_INET6)
    client.sendto(b"x", ("::1", port))
    _, peer = await world.receive(world.servers["a"])
    world.servers["a"].sendto(b"y", peer)
    data, (host, from_port, *_) = await world.receive(client)
    assert (data, host, from_port) == (b"y", "::1", port)
    assert [session.client_address for session in world.handler.sessions] == ["::1"]


async def test_an_answer_that_cannot_leave_is_lost_alone(world):
    world.serve("a")
    port, client = await world.listen(), world.open()
    peer = await ask(world, client, port)
    session = next(iter(world.handler.sessions))
    mark, session._answer_mark = session._answer_mark, b"\x02\x00\x00\x00" + session._answer_mark[4:]  # port 0
    world.servers["a"].sendto(b"lost", peer)
    await world.settle()
    session._answer_mark = mark
    await ask(world, client, port)
    assert world.count("dropped_datagrams") == 1


async def test_it_shows_its_state(world):
    world.serve("a")
    port, client = await world.listen(), world.open()
    await ask(world, client, port)
    assert "sessions=1 of" in repr(world.handler)
    assert "127.0.0.1" in repr(next(iter(world.handler.sessions)))
    assert isinstance(world.handler, UdpHandler)


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
