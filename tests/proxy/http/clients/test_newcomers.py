"""New connections: whose is made next, how much of the loop's time they get, and how one is handed over."""

import asyncio
import contextlib
import errno
import socket
import struct

import pytest
import uvloop

from maesh_core.proxy.http.clients import newcomers as newcomers_module
from maesh_core.proxy.http.clients.descriptor_transport import DescriptorTransport
from maesh_core.proxy.http.clients.listener import HttpListener
from maesh_core.proxy.http.clients.newcomers import (
    ACCEPTS_WITHOUT_CREDIT,
    CREDIT_LIMIT_S,
    HAND_OVER_READS,
    MADE_AT_A_TIME,
    NEWCOMERS_SHARE,
    QUIET_TURN_S,
    QUIET_TURNS,
    ROUND_LIMIT,
    Newcomers,
)
from maesh_core.proxy.http.environment import Environment
from maesh_core.proxy.network.clock import Clock
from maesh_core.settings import CarryingSettings


class Echo(asyncio.Protocol):
    """Sends back what comes, and keeps the transports it was given."""

    def __init__(self, entrypoint):
        self.entrypoint = entrypoint
        self.transports = []
        self.is_lost = False
        self.can_change_transport = True

    def connection_made(self, transport):
        self.transports.append(transport)
        self.entrypoint.now += self.entrypoint.cost_s
        if len(self.transports) == 1:
            self.address = transport.get_extra_info("peername")[0]
            self.entrypoint.made.append(self)
        elif self.transports[0].is_closing():
            transport.abort()

    def data_received(self, data):
        if data == b"fail":
            raise ValueError("this protocol has a defect")
        self.entrypoint.reads += 1
        self.transports[-1].write(data)

    def connection_lost(self, exc):
        assert not self.is_lost
        self.is_lost = True


class Entrypoint:
    """An open entrypoint with its newcomers, and a time that only the test moves: a connection made takes `cost_s`."""

    def __init__(self):
        self.now = self.cost_s = 0.0
        self.made = []
        self.reads = 0
        self.loop = asyncio.get_running_loop()
        self.clock = Clock(self.loop)
        self.environment = Environment(CarryingSettings(), self.clock)
        self.newcomers = Newcomers(self.environment, lambda: self.now)
        self.sock = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.sock.setblocking(False)
        self.address = self.sock.getsockname()
        self.listener = HttpListener(self.newcomers, self.sock, 5000, lambda: Echo(self))
        self.clients = contextlib.ExitStack()

    def open(self, source="127.0.5.1"):
        client = socket.create_connection(self.address, source_address=(source, 0))
        client.setblocking(False)
        return self.clients.enter_context(contextlib.closing(client))

    def step(self):
        """Have turns taken by the test alone."""
        self.loop.remove_reader(self.newcomers._epoll.fileno())
        return self.newcomers.take_turn

    async def close(self):
        self.clients.close()
        self.loop.add_reader(self.newcomers._epoll.fileno(), self.newcomers.take_turn)
        await until(lambda: all(protocol.is_lost for protocol in self.made))
        self.listener.close()
        self.newcomers.close()
        self.clock.close()


async def until(is_so):
    while not is_so():  # noqa: ASYNC110 - what is waited for has no event
        await asyncio.sleep(0)


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request):
    """Run a coroutine function with an entrypoint, on either event loop; each connection must end with its client."""

    def run_on_loop(test):
        async def run_all():
            entrypoint = Entrypoint()
            try:
                await asyncio.wait_for(test(entrypoint), 100)
            finally:
                await entrypoint.close()

        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(run_all())

    return run_on_loop


async def ask(client, text):
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(client, text)
    return await loop.sock_recv(client, 100)


def reset(client):
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def test_a_client_is_not_kept_waiting_behind_all_those_of_another_address(run):
    async def test(entrypoint):
        take_turn = entrypoint.step()
        crowd = [entrypoint.open() for _ in range(100)]
        entrypoint.open("127.0.5.2")
        entrypoint.cost_s = 0.0001
        while len(entrypoint.made) <= len(crowd):
            entrypoint.environment.find_entrypoint_counter(5000).requests += 1
            entrypoint.now += 0.001
            take_turn()
        turns = -(-len(crowd) // ACCEPTS_WITHOUT_CREDIT) + 1
        place = [protocol.address for protocol in entrypoint.made].index("127.0.5.2")
        assert place <= turns * MADE_AT_A_TIME

    run(test)


def test_newcomers_get_a_share_of_the_time_that_busy_clients_leave_and_no_more(run):
    async def test(entrypoint):
        take_turn = entrypoint.step()
        for _ in range(600):
            entrypoint.open()
        entrypoint.cost_s = 0.0001
        busy_s = 0.0
        while len(entrypoint.made) < 500:
            entrypoint.environment.find_entrypoint_counter(5000).requests += 1
            entrypoint.now += 0.002
            busy_s += 0.002
            take_turn()
        used_s = len(entrypoint.made) * entrypoint.cost_s
        slack_s = CREDIT_LIMIT_S + MADE_AT_A_TIME * entrypoint.cost_s
        assert busy_s * NEWCOMERS_SHARE - slack_s <= used_s <= busy_s * NEWCOMERS_SHARE + slack_s

    run(test)


def test_newcomers_get_all_of_the_time_once_nobody_else_has_had_a_request_for_some_turns(run):
    async def test(entrypoint):
        take_turn = entrypoint.step()
        for _ in range(300):
            entrypoint.open()
        entrypoint.cost_s = 0.0001
        entrypoint.newcomers._credit_s = -CREDIT_LIMIT_S
        entrypoint.environment.find_entrypoint_counter(5000).requests += 1
        for _ in range(QUIET_TURNS):
            take_turn()
            assert not entrypoint.made
        while entrypoint.newcomers.is_waiting:
            before, waiting = len(entrypoint.made), len(entrypoint.newcomers._arrivals)
            take_turn()
            assert len(entrypoint.made) - before >= min(waiting, QUIET_TURN_S // entrypoint.cost_s)

    run(test)


def test_what_newcomers_have_used_too_much_is_forgotten_beyond_a_limit(run):
    async def test(entrypoint):
        entrypoint.cost_s = 10.0
        with contextlib.closing(entrypoint.open()) as client:
            assert await ask(client, b"hello") == b"hello"
        assert entrypoint.newcomers._credit_s >= -CREDIT_LIMIT_S

    run(test)


def test_a_few_connections_are_read_in_one_turn_and_the_others_in_the_next(run):
    async def test(entrypoint):
        clients = [entrypoint.open() for _ in range(ROUND_LIMIT + 10)]
        await until(lambda: len(entrypoint.made) == len(clients))
        take_turn = entrypoint.step()
        for client in clients:
            client.send(b"hello")
        take_turn()
        assert entrypoint.reads == ROUND_LIMIT
        take_turn()
        assert entrypoint.reads == len(clients)

    run(test)


def test_a_connection_that_cannot_be_watched_is_closed_and_others_are_served(run, caplog):
    class Full:
        """An epoll that takes one descriptor less than it is asked for."""

        def __init__(self, epoll):
            self.epoll, self.has_refused = epoll, False

        def register(self, *arguments):
            if not self.has_refused:
                self.has_refused = True
                raise OSError(errno.ENOSPC, "No space left on device")
            self.epoll.register(*arguments)

        def __getattr__(self, name):
            return getattr(self.epoll, name)

    async def test(entrypoint):
        entrypoint.newcomers._epoll = Full(entrypoint.newcomers._epoll)
        unlucky = entrypoint.open()
        assert await entrypoint.loop.sock_recv(unlucky, 10) == b""
        assert await ask(entrypoint.open(), b"hello") == b"hello"

    run(test)
    assert "cannot watch a connection: No space left on device" in caplog.text


def test_clients_that_broke_before_their_turn_get_no_connection(run):
    async def test(entrypoint):
        for _ in range(50):
            reset(entrypoint.open())
        assert await ask(entrypoint.open("127.0.5.2"), b"hello") == b"hello"
        await until(lambda: not entrypoint.newcomers.is_waiting)
        assert [protocol.address for protocol in entrypoint.made] == ["127.0.5.2"]

    run(test)


def test_what_was_accepted_is_connected_after_the_entrypoint_was_closed(run):
    async def test(entrypoint):
        take_turn = entrypoint.step()
        clients = [entrypoint.open() for _ in range(ACCEPTS_WITHOUT_CREDIT)]
        entrypoint.cost_s = CREDIT_LIMIT_S
        take_turn()
        entrypoint.listener.close()
        assert len(entrypoint.made) < len(clients)
        assert entrypoint.newcomers.is_waiting
        entrypoint.loop.add_reader(entrypoint.newcomers._epoll.fileno(), take_turn)
        assert [await ask(client, b"hello") for client in clients] == [b"hello"] * len(clients)

    run(test)


def test_a_connection_that_lasts_is_handed_over_and_loses_nothing(run):
    async def test(entrypoint):
        client = entrypoint.open()
        texts = [b"%d" % number for number in range(HAND_OVER_READS * 2)]
        assert [await ask(client, text) for text in texts] == texts
        [protocol] = entrypoint.made
        first, second = protocol.transports
        assert isinstance(first, DescriptorTransport)
        assert not isinstance(second, DescriptorTransport)
        assert not entrypoint.newcomers._connections

    run(test)


def test_a_connection_is_handed_over_only_while_its_protocol_waits_for_a_request(run):
    async def test(entrypoint):
        client = entrypoint.open()
        assert await ask(client, b"hello") == b"hello"
        [protocol] = entrypoint.made
        protocol.can_change_transport = False
        for _ in range(HAND_OVER_READS * 2):
            assert await ask(client, b"again") == b"again"
        assert len(protocol.transports) == 1
        protocol.can_change_transport = True
        assert await ask(client, b"once more") == b"once more"
        assert len(protocol.transports) == 2

    run(test)


@pytest.mark.parametrize("end", ["close", "abort"])
def test_a_connection_that_is_ended_while_it_is_handed_over_ends(run, monkeypatch, end):
    monkeypatch.setattr(newcomers_module, "HAND_OVER_READS", 1)

    async def test(entrypoint):
        client = entrypoint.open()
        assert await ask(client, b"hello") == b"hello"
        [protocol] = entrypoint.made
        await entrypoint.loop.sock_sendall(client, b"more")
        await until(lambda: entrypoint.newcomers._moving)
        getattr(protocol.transports[0], end)()
        with contextlib.suppress(ConnectionResetError):
            assert await entrypoint.loop.sock_recv(client, 10) == b""
        await until(lambda: protocol.is_lost)

    run(test)


def test_a_defect_in_one_connections_protocol_ends_that_connection_alone(run, caplog):
    async def test(entrypoint):
        other, client = entrypoint.open(), entrypoint.open()
        await entrypoint.loop.sock_sendall(client, b"fail")
        with contextlib.suppress(ConnectionResetError):
            assert await entrypoint.loop.sock_recv(client, 10) == b""
        assert await ask(other, b"hello") == b"hello"

    run(test)
    assert "serving a connection failed" in caplog.text


def test_closing_closes_what_has_no_connection_yet(run):
    async def test(entrypoint):
        client = entrypoint.open()
        entrypoint.step()
        entrypoint.listener._accept(1)
        entrypoint.newcomers.close()
        assert await entrypoint.loop.sock_recv(client, 10) == b""
        entrypoint.newcomers = Newcomers(entrypoint.environment)

    run(test)
