"""A whole proxy drains and ends; and a proxy ends if one of its parts does."""

import asyncio
import logging
import signal
from typing import Any

import pytest

from maesh_core.proxy.node.shutdown import describe_connections

from .in_process_proxy import World


async def test_a_shutdown_ends_with_status_0_and_frees_the_ports(world: World) -> None:
    world.tell()
    task = world.start()
    await world.wait_for("/ready", 200)
    world.shutdown.request()
    assert await task == 0
    for port in (world.entrypoint, world.admin):
        with pytest.raises(ConnectionRefusedError):
            await world.get(port)


async def test_a_shutdown_before_any_configuration_ends_with_status_0(world: World) -> None:
    await world.controller.stop()
    task = world.start()
    await world.wait_for("/ping", 200)
    world.shutdown.request()
    assert await task == 0
    await world.controller.start()


async def test_a_drain_waits_for_running_exchanges(world: World) -> None:
    world.tell()
    task = world.start()
    await world.wait_for("/ready", 200)
    world.upstream.gate.clear()
    request = asyncio.ensure_future(world.get(world.entrypoint))
    await world.upstream.has_request.wait()
    world.shutdown.request()
    await world.wait_for("/ready", 503)
    await world.wait_until_refused(world.entrypoint)
    assert not task.done()
    world.upstream.gate.set()
    assert await request == (200, "hello")
    assert await task == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_drain_reports_what_it_waits_for_on_the_terminal_or_in_the_log(
    world: World, number: int, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    world.tell()
    task = world.start()
    await world.wait_for("/ready", 200)
    world.upstream.gate.clear()
    request = asyncio.ensure_future(world.get(world.entrypoint))
    await world.upstream.has_request.wait()
    world.shutdown.request(number)
    text = "waiting up to 10 s for 1 connection to end"
    shown = ""
    while text not in shown:
        await asyncio.sleep(0)
        shown += capfd.readouterr().err + caplog.text
    world.upstream.gate.set()
    await request
    assert await task == 0
    shown += capfd.readouterr().err
    assert (f"maesh: {text}; press Ctrl-C again to end at once\n" in shown) is (number == signal.SIGINT)
    assert (f"{text}; a second signal ends the proxy at once" in caplog.text) is (number == signal.SIGTERM)


async def test_a_shutdown_without_waiting_prints_nothing(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    world.tell()
    task = world.start()
    await world.wait_for("/ready", 200)
    world.shutdown.request(signal.SIGINT)
    assert await task == 0
    assert "waiting" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        ({"http": 1}, "1 connection"),
        ({"http": 12}, "12 connections"),
        ({"tcp": 1}, "1 connection (1 tcp)"),
        ({"udp": 2, "http": 1, "tcp": 0}, "3 connections (1 http, 2 udp)"),
    ],
)
def test_open_connections_are_named_by_protocol_unless_all_are_http(counts: dict[str, int], text: str) -> None:
    assert describe_connections(counts) == text


async def test_a_drain_ends_at_its_limit(world: World) -> None:
    world.tell()
    task = world.start(drain_timeout=0.01)
    await world.wait_for("/ready", 200)
    world.upstream.gate.clear()
    request = asyncio.ensure_future(world.get(world.entrypoint))
    await world.upstream.has_request.wait()
    world.shutdown.request()
    assert await task == 0
    await asyncio.gather(request, return_exceptions=True)


async def test_a_second_shutdown_request_cuts_exchanges_with_status_1(world: World) -> None:
    world.tell()
    task = world.start(drain_timeout=1000.0)
    await world.wait_for("/ready", 200)
    world.upstream.gate.clear()
    request = asyncio.ensure_future(world.get(world.entrypoint))
    await world.upstream.has_request.wait()
    world.shutdown.request()
    world.shutdown.request()
    assert await task == 1
    await asyncio.gather(request, return_exceptions=True)


async def test_an_error_in_a_part_ends_the_proxy(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(self: Any) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("maesh_core.proxy.node.entrypoints.Entrypoints.run", fail)
    with pytest.raises(RuntimeError, match="broken"):
        await world.start()


async def test_a_part_that_ends_without_an_error_ends_the_proxy_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def end(self: Any) -> None:
        """End at once."""

    monkeypatch.setattr("maesh_core.proxy.node.entrypoints.Entrypoints.run", end)
    with pytest.raises(RuntimeError, match="ended unexpectedly"):
        await world.start()
