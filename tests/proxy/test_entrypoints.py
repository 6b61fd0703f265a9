"""Real sockets under a handler that only accepts; pauses are counted, not waited."""

import asyncio
import logging
import socket
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from maesh_core.errors import StartupError
from maesh_core.proxy.backoff import Backoff
from maesh_core.proxy.entrypoints import Entrypoints
from maesh_core.proxy.routing.configuration import WantedEntrypoint

GetPort = Callable[[], int]


class AcceptingHandler:
    """Accepts, on the loop, one connection a round."""

    transport = "TCP"

    def __init__(self) -> None:
        self.accepted: list[socket.socket] = []
        self.opened: list[int] = []
        self.openings: dict[int, asyncio.Event] = defaultdict(asyncio.Event)

    async def open_listener(self, sock: socket.socket, entrypoint: int) -> Any:
        self.opened.append(entrypoint)
        self.openings[entrypoint].set()
        loop = asyncio.get_running_loop()
        handler = self

        class Listening:
            def close(self) -> None:
                loop.remove_reader(sock)
                sock.close()

        def accept() -> None:
            handler.accepted.append(sock.accept()[0])

        loop.add_reader(sock, accept)
        return Listening()


class Bench:
    """Entrypoints on loopback, whose pauses wait to be let go."""

    def __init__(self) -> None:
        self.handler = AcceptingHandler()
        self.pauses: list[float] = []
        self.go_on = asyncio.Event()
        self.paused = asyncio.Event()
        self.entrypoints = Entrypoints(
            {"http": self.handler, "tcp": self.handler},  # type: ignore[dict-item]
            bind="127.0.0.1",
            backoff=Backoff(lambda: 1.0),
            pause=self.pause,
        )

    async def pause(self, delay_s: float) -> None:
        self.pauses.append(delay_s)
        self.paused.set()
        await self.go_on.wait()
        self.go_on.clear()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    yield bench
    await bench.entrypoints.close()
    for sock in bench.handler.accepted:
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
    assert bench.handler.opened == [one, two]


async def test_closing_accepts_what_waits_and_leaves_it_open(bench: Bench, unused_tcp_port: int) -> None:
    await bench.entrypoints.apply(want(unused_tcp_port))
    clients = [socket.create_connection(("127.0.0.1", unused_tcp_port), 5) for _ in range(20)]
    assert len(bench.handler.accepted) < 20
    await bench.entrypoints.apply(frozenset())
    assert len(bench.handler.accepted) == 20
    for client, accepted in zip(clients, bench.handler.accepted, strict=True):
        accepted.sendall(b"x")
        assert client.recv(1) == b"x"
        client.close()


async def test_a_port_that_is_taken_stops_the_start_with_one_line(bench: Bench, unused_tcp_port: int) -> None:
    with socket.create_server(("127.0.0.1", unused_tcp_port)), pytest.raises(StartupError) as raised:
        await bench.entrypoints.apply(want(unused_tcp_port), is_first=True)
    assert str(raised.value) == f"cannot listen on 127.0.0.1:{unused_tcp_port} (TCP): Address already in use"


async def test_a_port_that_is_taken_later_is_told_once_and_tried_again(
    bench: Bench, unused_tcp_port_factory: GetPort, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
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
    await bench.handler.openings[taken].wait()
    assert is_open(taken)
    assert bench.pauses == [0.1, 0.2, 0.4, 0.8]
    assert len(caplog.records) == 1
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
