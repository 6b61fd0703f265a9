"""Workers' processes as they are started: what their environment says."""

import signal
from pathlib import Path

import pytest

from maesh_core.proxy.workers.memory_keeper import MemoryKeeper
from maesh_core.proxy.workers.spawning import ALLOCATOR_SETTINGS, WorkerSpawner


def list_variables(pid: int) -> dict[str, str]:
    text = Path(f"/proc/{pid}/environ").read_text()
    return dict(line.split("=", 1) for line in text.split("\0") if line)


async def read_environment(monkeypatch: pytest.MonkeyPatch, **variables: str) -> dict[str, str]:
    """Start a worker beside these variables, end it, and give the environment it was started with."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    keeper = MemoryKeeper()
    worker = await WorkerSpawner("{}", keeper)(0)
    try:
        return list_variables(worker.pid)
    finally:
        worker.kill()
        await worker.wait()
        worker.socket.close()
        keeper.close()


async def test_a_worker_gets_the_settings_and_no_pipe_of_the_process_that_started_the_node(monkeypatch):
    environment = await read_environment(monkeypatch, MAESH_PARENT_PIPE="7", MAESH_PROXY_SETTINGS_JSON="[]")
    assert environment["MAESH_PROXY_SETTINGS_JSON"] == "{}"
    assert "MAESH_PARENT_PIPE" not in environment


async def test_large_buffers_are_kept_by_the_allocator_unless_the_environment_says_otherwise(monkeypatch):
    mapped, trimmed = ALLOCATOR_SETTINGS
    environment = await read_environment(monkeypatch, **{mapped: "1"})
    assert environment[mapped] == "1"
    assert environment[trimmed] == ALLOCATOR_SETTINGS[trimmed]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
async def test_a_signal_does_not_end_a_worker_that_is_being_started(number):
    keeper = MemoryKeeper()
    worker = await WorkerSpawner("{}", keeper)(0)
    worker.send_signal(number)
    worker.socket.close()
    assert await worker.wait() >= 0
    keeper.close()
