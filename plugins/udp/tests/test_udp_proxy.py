"""Sessions through real sockets: which server and which client gets a datagram, and which are dropped."""

import random
import socket

import pytest
from maesh_udp.batches import BATCH
from maesh_udp.proxy import UdpHandler

from maesh_core.model.configuration import Section, Server, Service, StreamRouter

from .asking import ask
from .conftest import ENTRYPOINT, KEY


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


async def test_only_the_server_can_answer_and_only_clients_that_sent_get_answers(world):
    world.serve("a")
    port, client, stranger = await world.listen(), world.open(), world.open()
    peer = await ask(world, client, port)
    stranger.sendto(b"spoofed", peer)
    await world.settle()
    assert world.is_silent(client)
    assert world.is_silent(stranger)


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


async def test_a_server_that_comes_back_is_tried_with_a_copy_whose_answer_is_dropped(world):
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


async def test_the_only_server_gets_datagrams_however_often_it_failed(world):
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
    assert world.node.denials == {("127.0.0.1", "test/dns:53"): 1}


async def test_a_session_that_is_no_longer_allowed_ends_at_the_next_change(world):
    gate = Gate()
    world.serve("a", middlewares=[gate])
    port, client = await world.listen(), world.open()
    peer = await ask(world, client, port)
    world.serve("a", middlewares=[gate])
    assert await ask(world, client, port) == peer
    gate.is_open = False
    world.serve("a", middlewares=[gate])
    assert not world.handler.sessions


async def test_a_removed_server_gets_no_datagrams_and_its_answers_are_forwarded(world):
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


async def test_a_closing_entrypoint_accepts_nothing_and_forwards_outstanding_answers(world):
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
async def test_an_answer_is_sent_from_the_address_that_the_client_used(world, address):
    world.serve("a")
    port, client = await world.listen("0.0.0.0"), world.open("127.0.0.50")
    client.connect((address, port))
    client.send(b"x")
    _, peer = await world.receive(world.servers["a"])
    world.servers["a"].sendto(b"y", peer)
    assert await world.receive(client) == (b"y", (address, port))


async def test_a_client_has_a_session_for_each_address_that_it_used(world):
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


async def test_an_answer_that_cannot_be_sent_is_the_only_one_lost(world):
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


async def test_the_representations_show_sessions_and_clients(world):
    world.serve("a")
    port, client = await world.listen(), world.open()
    await ask(world, client, port)
    assert "sessions=1 of" in repr(world.handler)
    assert "127.0.0.1" in repr(next(iter(world.handler.sessions)))
    assert isinstance(world.handler, UdpHandler)


async def test_clients_of_a_namespace_reach_the_servers_of_their_own_rule(world):
    world.serve("a", "b")
    services = {
        key: Service(servers=(Server(address="127.0.0.1", port=world.servers[name].getsockname()[1]),))
        for key, name in ((KEY, "a"), (f"{KEY}/consumer/lab/r", "b"))
    }
    router = StreamRouter(entrypoint=ENTRYPOINT, service=KEY, consumers={"lab": f"{KEY}/consumer/lab/r"})
    section = Section(routers={KEY: router}, services=services)
    world.handler.apply_table(world.handler.compile_table(section, middlewares={}, changed=None))
    world.handler.apply_namespaces({"127.0.0.2": "lab", "127.0.0.3": "other"})
    port, lab, other = await world.listen(), world.open("127.0.0.2"), world.open("127.0.0.3")
    await ask(world, lab, port, server="b")
    await ask(world, other, port, server="a")
    world.handler.apply_table(world.handler.compile_table(section, middlewares={}, changed=None))
    await ask(world, lab, port, server="b")
    assert world.count("sessions") == 2
