"""Real sockets under workers that only accept; pauses are counted, not waited."""

import asyncio
import contextlib
import logging
import socket
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from maesh_core.errors import StartupError
from maesh_core.process.backoff import Backoff
from maesh_core.proxy.node.entrypoints import Entrypoints
from maesh_core.proxy.routing.wanted_entrypoint import WantedEntrypoint
from maesh_core.proxy.workers.messages import Done, Failed, Listen, Report, Unlisten

GetPort = Callable[[], int]


class AcceptingWorkers:
    """Two workers that carry out orders on this loop: each accepts what waits, until it is told to stop."""

    size = 2

    def __init__(self) -> None:
        self.joined: list[Any] = []
        self.orders: list[tuple[int, Any]] = []
        self.sockets: dict[tuple[int, WantedEntrypoint], list[socket.socket]] = {}
        self.accepted: list[socket.socket] = []
        self.openings: dict[int, asyncio.Event] = defaultdict(asyncio.Event)
        self.failure = ""

    def join(self, link: Any) -> None:
        self.joined.append(link)

    async def ask(self, link: Any, order: Any, *, sockets: Any = ()) -> Report:
        self.orders.append((link.slot, order))
        key = (link.slot, order.entrypoint)
        if isinstance(order, Unlisten):
            self.accept(key)
            for sock in self.sockets.pop(key, ()):
                sock.close()
            return Done()
        if self.failure:
            return Failed(text=self.failure)
        self.sockets[key] = [sock.dup() for sock in sockets]
        self.openings[order.entrypoint.port].set()
        return Done()

    async def ask_all(self, order: Any) -> dict[Any, Report]:
        return {link: await self.ask(link, order) for link in self.joined}

    def accept(self, key: tuple[int, WantedEntrypoint]) -> None:
        for sock in self.sockets.get(key, ()):
            with contextlib.suppress(BlockingIOError):
                while True:
                    self.accepted.append(sock.accept()[0])


class FakeLink:
    """A worker of a slot."""

    def __init__(self, slot: int) -> None:
        self.slot = slot


class Bench:
    """Entrypoints on loopback, whose pauses wait to be let go."""

    def __init__(self) -> None:
        self.workers = AcceptingWorkers()
        self.pauses: list[float] = []
        self.go_on = asyncio.Event()
        self.paused = asyncio.Event()
        self.entrypoints = Entrypoints(
            self.workers, bind="127.0.0.1", backoff=Backoff(chance=lambda: 1.0), pause=self.pause
        )

    async def pause(self, delay_s: float) -> None:
        self.pauses.append(delay_s)
        self.paused.set()
        await self.go_on.wait()
        self.go_on.clear()

    async def join(self, slot: int) -> None:
        await self.entrypoints.hand_over(FakeLink(slot))  # type: ignore[arg-type]


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    for slot in range(2):
        await bench.join(slot)
    yield bench
    await bench.entrypoints.apply(frozenset())
    for sock in bench.workers.accepted:
        sock.close()


def want(*ports: int, protocol: str = "http") -> frozenset[WantedEntrypoint]:
    return frozenset(WantedEntrypoint("TCP", port, protocol) for port in ports)


def is_open(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


async def test_entrypoints_open_and_close_as_they_are_wanted(bench: Bench, unused_tcp_port_factory: GetPort) -> None:
    one, two = unused_tcp_port_factory(), unused_tcp_port_factory()
    await bench.entrypoints.apply(want(one))
    assert (is_open(one), is_open(two)) == (True, False)
    await bench.entrypoints.apply(want(one, two))
    assert (is_open(one), is_open(two)) == (True, True)
    await bench.entrypoints.apply(want(two))
    assert (is_open(one), is_open(two)) == (False, True)
    opened = [(slot, order.entrypoint.port) for slot, order in bench.workers.orders if isinstance(order, Listen)]
    assert opened == [(0, one), (1, one), (0, two), (1, two)]


def connect(port: int, count: int) -> list[socket.socket]:
    return [socket.create_connection(("127.0.0.1", port), 60) for _ in range(count)]


def check_served(clients: list[socket.socket], accepted: list[socket.socket]) -> None:
    for sock in accepted:
        sock.sendall(b"x")
    for client in clients:
        assert client.recv(1) == b"x"
        client.close()


async def test_closing_lets_both_workers_accept_what_waits(bench: Bench, unused_tcp_port: int) -> None:
    await bench.entrypoints.apply(want(unused_tcp_port))
    clients = connect(unused_tcp_port, 40)
    await bench.entrypoints.apply(frozenset())
    assert len(bench.workers.accepted) == 40
    check_served(clients, bench.workers.accepted)
    assert not is_open(unused_tcp_port)


async def test_a_successor_accepts_what_waited_for_the_worker_before_it(bench: Bench, unused_tcp_port: int) -> None:
    await bench.entrypoints.apply(want(unused_tcp_port))
    clients = connect(unused_tcp_port, 40)
    (entrypoint,) = want(unused_tcp_port)
    for slot in range(2):
        for sock in bench.workers.sockets.pop((slot, entrypoint)):
            sock.close()  # as the kernel does when a process ends
    del bench.workers.joined[:]
    for slot in range(2):
        await bench.join(slot)
        bench.workers.accept((slot, entrypoint))
    assert len(bench.workers.accepted) == 40
    check_served(clients, bench.workers.accepted)


async def test_released_entrypoints_close_with_the_workers(bench: Bench, unused_tcp_port: int) -> None:
    await bench.entrypoints.apply(want(unused_tcp_port))
    bench.entrypoints.release()
    assert is_open(unused_tcp_port)
    for sockets in bench.workers.sockets.values():
        for sock in sockets:
            sock.close()
    assert not is_open(unused_tcp_port)
    assert bench.entrypoints.opened == frozenset()


async def test_what_a_worker_cannot_listen_on_is_closed_for_all(bench: Bench, unused_tcp_port: int) -> None:
    bench.workers.failure = "no room"
    await bench.entrypoints.apply(want(unused_tcp_port))
    assert list(bench.entrypoints.closed.values()) == [f"cannot listen on 127.0.0.1:{unused_tcp_port} (TCP): no room"]
    assert not is_open(unused_tcp_port)


async def test_a_new_worker_that_cannot_listen_does_not_join(bench: Bench, unused_tcp_port: int) -> None:
    await bench.entrypoints.apply(want(unused_tcp_port))
    bench.workers.failure = "no room"
    with pytest.raises(ValueError, match="no room"):
        await bench.join(1)
    assert len(bench.workers.joined) == 2


async def test_a_port_that_is_taken_stops_the_start_with_one_line(bench: Bench, unused_tcp_port: int) -> None:
    with socket.create_server(("127.0.0.1", unused_tcp_port)), pytest.raises(StartupError) as raised:
        await bench.entrypoints.apply(want(unused_tcp_port), is_first=True)
    assert str(raised.value) == f"cannot listen on 127.0.0.1:{unused_tcp_port} (TCP): Address already in use"


async def test_a_port_that_is_taken_later_is_logged_once_and_tried_again(
    bench: Bench, unused_tcp_port_factory: GetPort, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    taken, free = unused_tcp_port_factory(), unused_tcp_port_factory()
    retrying = asyncio.create_task(bench.entrypoints.run())
    with socket.create_server(("127.0.0.1", taken)):
        await bench.entrypoints.apply(want(taken, free))
        assert is_open(free)
        assert list(bench.entrypoints.closed) == list(want(taken))
        for _ in range(3):
            await bench.paused.wait()
            bench.paused.clear()
            bench.go_on.set()
        await bench.paused.wait()
    bench.go_on.set()
    await bench.workers.openings[taken].wait()
    assert is_open(taken)
    assert bench.pauses == [0.1, 0.2, 0.4, 0.8]
    while len(caplog.records) < 2:  # noqa: ASYNC110 - the log tells nobody
        await asyncio.sleep(0)
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        f"entrypoint {taken} is closed",
        f"entrypoint {taken} is open now",
    ]
    retrying.cancel()
    await asyncio.gather(retrying, return_exceptions=True)


async def test_a_port_that_two_protocols_name_goes_to_the_first_by_name(bench: Bench, unused_tcp_port: int) -> None:
    wanted = want(unused_tcp_port) | want(unused_tcp_port, protocol="tcp")
    await bench.entrypoints.apply(wanted)
    assert bench.entrypoints.opened == want(unused_tcp_port)
    assert list(bench.entrypoints.closed.values()) == [f"TCP port {unused_tcp_port} belongs to protocol http"]
    await bench.entrypoints.apply(want(unused_tcp_port, protocol="tcp"))
    assert bench.entrypoints.opened == want(unused_tcp_port, protocol="tcp")
    assert bench.entrypoints.closed == {}
