"""A whole proxy in this process."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from maesh_core.proxy.node import run as run_module
from maesh_core.proxy.worker import orders as orders_module
from maesh_core.proxy.worker import program as worker_module

from .in_process_proxy import GetPort, World


@pytest.fixture
async def world(unused_tcp_port_factory: GetPort, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    for module in (run_module, orders_module):
        monkeypatch.setattr(module, "settle_memory", lambda: None)
    for module in (run_module, worker_module):
        monkeypatch.setattr(module, "raise_open_files_limit", lambda: None)
    world = World(unused_tcp_port_factory)
    await world.controller.start()
    await world.upstream.start()
    yield world
    world.shutdown.request()
    world.shutdown.request()
    if world.task is not None:
        await asyncio.gather(world.task, return_exceptions=True)
    await world.controller.stop()
    await world.upstream.stop()
    assert asyncio.all_tasks() == {asyncio.current_task()}
