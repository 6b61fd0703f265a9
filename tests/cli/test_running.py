"""Commands run until a signal: the first lets them end, the second does not wait."""

import asyncio
import signal
import subprocess
import sys

import pytest

from maesh_core.cli import running
from maesh_core.cli.running import run_to_end, run_until_signalled
from maesh_core.errors import StartupError

PROGRAM = """
import asyncio, signal
from maesh_core.cli.running import run_until_signalled

async def run(stop):
    signal.raise_signal(signal.{first})
    await stop.wait()
    print("stopping", flush=True)
    signal.raise_signal(signal.{second})
    await asyncio.sleep(60)

run_until_signalled(run, on_abort=lambda: print("aborting", flush=True))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_asks_to_stop_and_handlers_are_taken_back(number):
    before = signal.getsignal(number)
    stopped = []

    async def run(stop):
        signal.raise_signal(number)
        await stop.wait()
        stopped.append(number)

    run_until_signalled(run)
    assert stopped == [number]
    assert signal.getsignal(number) is before


def test_a_finished_run_returns_its_result_or_raises_its_error():
    async def give():
        return 7

    async def fail():
        raise StartupError("no")

    assert run_to_end(give, stopped="stopped") == 7
    with pytest.raises(StartupError, match="no"):
        run_to_end(fail, stopped="stopped")


def test_a_signal_cancels_what_runs_to_its_end():
    ended = []

    async def work():
        try:
            signal.raise_signal(signal.SIGTERM)
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    with pytest.raises(StartupError, match="stopped half-way"):
        run_to_end(work, stopped="stopped half-way")
    assert ended == [True]


@pytest.mark.parametrize(("first", "second"), [("SIGINT", "SIGTERM"), ("SIGTERM", "SIGINT"), ("SIGINT", "SIGINT")])
def test_second_signal_ends_at_once_with_status_1(first, second):
    code = PROGRAM.format(first=first, second=second)
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "stopping\naborting\n", "")


def interrupt(number, describe_wait, monkeypatch):
    """Run what does not end before it has had time to say what it waits for."""
    monkeypatch.setattr(running, "SLOW_END_S", 0)
    seen = []

    async def run(stop):
        signal.raise_signal(number)
        await stop.wait()
        for _ in range(10):
            await asyncio.sleep(0)

    run_until_signalled(run, on_interrupt=lambda: seen.append(number), describe_wait=describe_wait)
    return seen


def test_an_end_that_is_slow_says_what_it_waits_for_to_who_pressed_ctrl_c(monkeypatch, capfd):
    assert interrupt(signal.SIGINT, lambda: "waiting for a thing", monkeypatch) == [signal.SIGINT]
    captured = capfd.readouterr()
    assert captured.err == "maesh: waiting for a thing; press Ctrl-C again to end at once\n"
    assert captured.out == ""


def test_a_slow_end_that_was_told_already_and_one_that_a_signal_asked_for_say_nothing(monkeypatch, capfd):
    interrupt(signal.SIGINT, lambda: "", monkeypatch)
    assert interrupt(signal.SIGTERM, lambda: "waiting for a thing", monkeypatch) == []
    assert capfd.readouterr().err == ""


LATE = """
import asyncio, signal, threading
from maesh_core.cli.running import run_until_signalled

def work(ended):
    ended.wait()
    signal.raise_signal(signal.SIGTERM)

async def run(stop):
    ended = threading.Event()
    asyncio.get_running_loop().run_in_executor(None, work, ended)
    ended.set()

run_until_signalled(run)
print("ended", flush=True)
"""


def test_signal_while_threads_come_to_their_end_changes_nothing():
    ended = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "ended\n", "")


def test_error_of_what_runs_is_raised():
    async def run(stop):
        raise KeyError("x")

    with pytest.raises(KeyError):
        run_until_signalled(run)
