"""Accepted clients: whose connection is made next, and that none is lost when an entrypoint closes."""

import asyncio
import contextlib
import errno
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.proxy.protocol.http import listener as listener_module
from maesh_core.proxy.protocol.http.listener import ARRIVED_LIMIT, CONNECTIONS_IN_A_TURN, Arrivals, HttpListener


class Client:
    """A socket that says whose it is, and whether it was closed."""

    def __init__(self, address, number):
        self.address, self.number, self.is_closed = address, number, False

    def close(self):
        self.is_closed = True


def test_addresses_take_turns_and_each_keeps_its_order():
    arrivals = Arrivals()
    for number in range(4):
        arrivals.add(Client("greedy", number), "greedy")
    arrivals.add(Client("late", 0), "late")
    popped = [arrivals.pop() for _ in range(len(arrivals))]
    assert [(client.address, client.number) for client in popped] == [
        ("greedy", 0),
        ("late", 0),
        ("greedy", 1),
        ("greedy", 2),
        ("greedy", 3),
    ]
    assert not arrivals


def test_of_too_many_the_latest_one_of_the_address_that_has_most_is_closed():
    arrivals = Arrivals()
    greedy = [Client("greedy", number) for number in range(ARRIVED_LIMIT - 1)]
    for client in greedy:
        arrivals.add(client, "greedy")
    modest = [Client("modest", number) for number in range(3)]
    for client in modest:
        arrivals.add(client, "modest")
    assert [client.is_closed for client in modest] == [False] * 3
    assert [client.number for client in greedy if client.is_closed] == [ARRIVED_LIMIT - 3, ARRIVED_LIMIT - 2]
    assert len(arrivals) == ARRIVED_LIMIT


@given(st.lists(st.one_of(st.sampled_from("abc"), st.none())))
def test_every_address_waits_for_one_turn_of_each_other_address_at_most(story):
    """Each step adds a client of an address, or takes one."""
    arrivals, waiting, passed_over = Arrivals(), {}, {}
    for number, address in enumerate(story):
        if address is not None:
            arrivals.add(Client(address, number), address)
            waiting.setdefault(address, []).append(number)
            passed_over.setdefault(address, 0)
        elif arrivals:
            client = arrivals.pop()
            assert waiting[client.address].pop(0) == client.number
            for other, numbers in waiting.items():
                passed_over[other] = passed_over[other] + 1 if numbers and other != client.address else 0
                assert passed_over[other] < 3
        assert len(arrivals) == sum(map(len, waiting.values()))


class Greeter(asyncio.Protocol):
    """Says who it is, and ends when its client does."""

    def __init__(self, made):
        self.made = made

    def connection_made(self, transport):
        self.made.append(transport.get_extra_info("peername")[0])
        transport.write(b"hello")


@pytest.fixture
async def entrypoint():
    """Give an open entrypoint, its address, and whose connections were made so far."""
    made = []
    sock = socket.create_server(("127.0.0.1", 0), backlog=512)
    sock.setblocking(False)
    listener = HttpListener(sock, 5000, lambda: Greeter(made))
    yield listener, sock, made
    listener.close()


async def until(is_so):
    while not is_so():  # noqa: ASYNC110 - what is waited for has no event
        await asyncio.sleep(0)


def connect(sock, source):
    client = socket.create_connection(sock.getsockname(), source_address=(source, 0))
    client.setblocking(False)
    return client


async def test_a_client_is_not_kept_waiting_behind_all_those_of_another_address(entrypoint):
    _, sock, made = entrypoint
    clients = [connect(sock, "127.0.5.1") for _ in range(200)] + [connect(sock, "127.0.5.2")]
    await until(lambda: len(made) == len(clients))
    turns_for_16_accepted = 200 // 16 + 2
    assert made.index("127.0.5.2") <= turns_for_16_accepted * CONNECTIONS_IN_A_TURN
    for client in clients:
        client.close()
    await asyncio.sleep(0)


async def test_clients_that_broke_before_their_turn_get_no_connection_and_cost_no_turn(entrypoint):
    listener, sock, made = entrypoint
    for _ in range(50):
        client = connect(sock, "127.0.5.1")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    with connect(sock, "127.0.5.2") as client:
        await until(lambda: made)
        assert await asyncio.get_running_loop().sock_recv(client, 5) == b"hello"
    await until(lambda: not listener.is_busy)
    assert made == ["127.0.5.2"]


async def test_what_was_accepted_is_connected_after_the_entrypoint_was_closed(entrypoint):
    listener, sock, made = entrypoint
    clients = [connect(sock, "127.0.5.1") for _ in range(10)]
    listener._accept()
    listener.close()
    assert listener.is_busy
    assert not listener.is_closed
    await until(lambda: listener.is_closed)
    assert len(made) == len(clients)
    for client in clients:
        client.close()
    listener.close()
    await asyncio.sleep(0)


async def test_accepting_goes_on_after_a_pause_where_descriptors_lack(entrypoint, monkeypatch, caplog):
    listener, sock, made = entrypoint
    monkeypatch.setattr(listener_module, "ACCEPT_PAUSE_S", 0.001)

    class Exhausted:
        failures = [errno.EMFILE, errno.ENOMEM]

        def accept(self):
            if self.failures:
                raise OSError(self.failures.pop(0), "no more")
            return sock.accept()

    listener._acceptor._sock = Exhausted()
    with contextlib.closing(connect(sock, "127.0.5.1")):
        await until(lambda: made)
    assert len(caplog.records) == 1
    await asyncio.sleep(0)
