"""A pytest plugin that fails a test by itself for what it leaves behind, instead of another test that runs later.

It looks for descriptors, child processes, threads, and tasks of the test's event loop. It also collects garbage after
each test, so that a transport or a session that was not closed warns in the test that made it. A fixture of a wider
scope may keep open what it opens. Linux only.
"""

import asyncio
import contextlib
import gc
import os
import sys
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import uvloop

KEPT_SOCKETS = "@maesh-test-ports-"
"""Sockets that testing/ports.py keeps as long as the process lives."""
LONG_COLLECTION_S = 0.003
"""A collection that takes more CPU time than this exempts what is left, so that the next one is short again."""
TASK_PATIENCE_S = 1.0
"""The time for tasks that end by themselves: on a busy machine a test's server reads the end of a connection late."""


class Inventory(NamedTuple):
    """What the process has at one moment."""

    descriptors: frozenset[tuple[int, int, int]]
    """Number, device and inode: a number that is used again is another descriptor."""
    children: frozenset[int]
    threads: frozenset[threading.Thread]

    @classmethod
    def take(cls) -> "Inventory":
        """List what there is now."""
        return cls(frozenset(_list_descriptors()), frozenset(_list_children()), frozenset(threading.enumerate()))

    def leave_out(self, other: "Inventory") -> "Inventory":
        """List what only this one has."""
        return Inventory(
            self.descriptors - other.descriptors, self.children - other.children, self.threads - other.threads
        )

    def add(self, other: "Inventory") -> "Inventory":
        """List what either has."""
        return Inventory(
            self.descriptors | other.descriptors, self.children | other.children, self.threads | other.threads
        )

    def describe(self) -> list[str]:
        """Write a line for each thing, except for what the process keeps until it ends."""
        lines = [f"descriptor {number}: {_describe_descriptor(number)}" for number, *_ in sorted(self.descriptors)]
        lines += [f"child process {pid}: {_read_command(pid)}" for pid in sorted(self.children)]
        lines += [f"thread {thread.name}" for thread in self.threads if thread.is_alive()]
        return [line for line in lines if KEPT_SOCKETS not in line]


NOTHING = Inventory(frozenset(), frozenset(), frozenset())


class LeakCheck:
    """The plugin's hooks, and what fixtures of a wider scope than one test have opened so far."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._before = NOTHING
        self._kept = NOTHING
        self._pending_tasks: list[str] = []
        self._has_failed = False

    @pytest.hookimpl
    def pytest_sessionstart(self) -> None:
        """Have libuv open the pipe that it keeps for all loops of a process."""
        uvloop.new_event_loop().close()

    @pytest.hookimpl
    def pytest_collection_finish(self) -> None:
        """Exempt all that was imported from later collections, which then look at a test's own objects alone."""
        gc.collect()
        gc.freeze()

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
    ) -> Generator[None, object, object]:
        """Keep what a fixture of a wider scope opens, and look at the tasks before a test's loop is closed."""
        before = NOTHING if fixturedef.scope == "function" else Inventory.take()
        value = yield
        if fixturedef.scope != "function":
            self._kept = self._kept.add(Inventory.take().leave_out(before))
        elif isinstance(value, asyncio.Runner):
            fixturedef.addfinalizer(lambda: self._look_at_tasks(value))
        return value

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None]:
        """Note what there is before a test."""
        self._has_failed = False
        self._pending_tasks = []
        self._before = Inventory.take()
        yield

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Note that a test failed: its traceback keeps what it opened."""
        report = yield
        self._has_failed = self._has_failed or report.failed
        return report

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None]:
        """Compare, once every fixture of the test has ended."""
        yield
        if self._has_failed:
            return
        if isinstance(item, pytest.Function):
            item.funcargs.clear()
        complaints = [*self._pending_tasks, *_collect_garbage(), *self._find_left_behind()]
        if complaints:
            pytest.fail("the test leaves behind:\n" + "\n".join(complaints), pytrace=False)

    def _find_left_behind(self) -> list[str]:
        deadline = time.monotonic() + self._patience_s
        allowed = self._before.add(self._kept)
        while complaints := Inventory.take().leave_out(allowed).describe():
            if time.monotonic() > deadline:
                return complaints
            time.sleep(0.01)
        return []

    def _look_at_tasks(self, runner: asyncio.Runner) -> None:
        loop = runner.get_loop()
        if loop.is_closed():
            return
        for _ in range(10):  # rounds in which cancelled tasks end
            if not asyncio.all_tasks(loop):
                return
            loop.run_until_complete(asyncio.sleep(0))
        deadline = time.monotonic() + TASK_PATIENCE_S
        while asyncio.all_tasks(loop) and time.monotonic() < deadline:
            loop.run_until_complete(asyncio.sleep(0.01))
        self._pending_tasks = [f"task {task!r}" for task in asyncio.all_tasks(loop)]


def _collect_garbage() -> list[str]:
    """Collect what the test made and list the warnings of what was not closed."""
    found: list[str] = []

    def note(unraisable: Any) -> None:
        found.append(f"{unraisable.object!r}: {unraisable.exc_value!r}")

    previous, sys.unraisablehook = sys.unraisablehook, note
    began = time.process_time()
    try:
        gc.collect()
    finally:
        sys.unraisablehook = previous
    if time.process_time() - began > LONG_COLLECTION_S:
        gc.freeze()  # too much is left of earlier tests, or the controller of a test has ended the exemption
    return found


def _list_descriptors() -> Iterator[tuple[int, int, int]]:
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the one that listed them is closed by now
            found = os.fstat(int(name))
            yield int(name), found.st_dev, found.st_ino


def _describe_descriptor(number: int) -> str:
    try:
        target = os.readlink(f"/proc/self/fd/{number}")
    except OSError:
        return "closed meanwhile"
    if target.startswith("socket:["):
        inode = target[len("socket:[") : -1]
        for table in ("tcp", "tcp6", "udp", "udp6", "unix"):
            for line in Path("/proc/self/net", table).read_text().splitlines():
                if inode in line.split():
                    return f"{target} {table} {line.strip()}"
    return target


def _list_children() -> Iterator[int]:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return  # almost always, for the price of one system call
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError):
            yield from map(int, Path(f"/proc/self/task/{task}/children").read_text().split())


def _read_command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return "ended"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add how long may last what is ending: a server's thread first has to read the end of its connection."""
    about = "seconds that what a test leaves behind has to end (default: %(default)s)"
    parser.addoption("--leak-patience", type=float, default=30.0, metavar="SECONDS", help=about)


def pytest_configure(config: pytest.Config) -> None:
    """Register the hooks with their state."""
    config.pluginmanager.register(LeakCheck(config.getoption("leak_patience")), "maesh-leaks")
