"""Runs commands as processes of their own, whose output is kept and whose end is looked after."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

MAESH = (sys.executable, "-P", "-m", "maesh_core.cli")
"""The command `maesh` of this Python's environment."""
PATIENCE_S = 60.0
_OWN_VARIABLE = re.compile(r"(TRAEFIK_)?(MESH|MAESH)_")

_ResultT = TypeVar("_ResultT")


def wait_until(condition: Callable[[], _ResultT], what: str, timeout_s: float = PATIENCE_S) -> _ResultT:
    """Poll until the condition gives something true, and return that. Raises AssertionError, which says `what`."""
    deadline = time.monotonic() + timeout_s
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {timeout_s:g} s")
        time.sleep(0.02)
    return result


def build_environment(home: Path) -> dict[str, str]:
    """Build the environment of a user who has set nothing, whose home is this folder."""
    kept = {name: value for name, value in os.environ.items() if not _OWN_VARIABLE.match(name)}
    return kept | {"HOME": str(home), "XDG_STATE_HOME": str(home), "XDG_CONFIG_HOME": str(home)}


def list_own_variables() -> dict[str, str]:
    """List the variables of this environment that `maesh` would take for settings."""
    return {name: value for name, value in os.environ.items() if _OWN_VARIABLE.match(name)}


class Command:
    """A running command. `folder`, which it makes, keeps what it writes."""

    def __init__(self, program: Sequence[str | Path], folder: Path, environment: Mapping[str, str]) -> None:
        folder.mkdir(parents=True)
        self.stdout_path, self.stderr_path = folder / "stdout", folder / "stderr"
        self.program = tuple(map(str, program))
        with self.stdout_path.open("wb") as stdout, self.stderr_path.open("wb") as stderr:
            self.process = subprocess.Popen(  # noqa: S603 - a test says what runs
                self.program,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=environment,
                start_new_session=True,
            )

    def __repr__(self) -> str:
        return f"<Command {' '.join(self.program)}>"

    @property
    def stdout(self) -> str:
        """What it has written to its standard output so far."""
        return self.stdout_path.read_text()

    @property
    def stderr(self) -> str:
        """What it has written to its standard error so far."""
        return self.stderr_path.read_text()

    @property
    def status(self) -> int | None:
        """Its exit status; None while it runs."""
        return self.process.poll()

    def wait_until(self, condition: Callable[[], _ResultT], what: str) -> _ResultT:
        """Wait for the condition while the command runs; its end is an error that shows what it wrote."""

        def check() -> _ResultT:
            if self.status is not None:
                raise AssertionError(f"{self} ended with {self.status} before: {what}\n{self.stdout}\n{self.stderr}")
            return condition()

        return wait_until(check, f"{self}: {what}")

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        """Wait for the end; returns the status."""
        return self.process.wait(timeout_s)

    def stop(self, number: int = signal.SIGTERM, timeout_s: float = PATIENCE_S) -> int:
        """Send a signal and wait for the end; returns the status."""
        self.process.send_signal(number)
        return self.wait(timeout_s)

    def find_left_behind(self) -> list[int]:
        """Find the processes that still run in the command's session."""
        return [
            pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _read_session(pid) == self.process.pid
        ]

    def end(self) -> list[str]:
        """End it and what it has left behind; returns what was not as it should be."""
        complaints = []
        if self.status is None:
            try:
                status = self.stop()
                if status != 0:
                    complaints.append(f"{self} ended with {status} on SIGTERM:\n{self.stderr}")
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.wait()
                complaints.append(f"{self} did not end on SIGTERM:\n{self.stderr}")
        for pid in self.find_left_behind():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            complaints.append(f"{self} left process {pid} behind")
        return complaints


def suspend(pid: int) -> None:
    """Stop a process as SIGSTOP does, and return when all its threads have stopped.

    The signal alone acts only once the kernel runs the process again. Until then, a signal that is sent later may
    arrive first: of several pending ones, the kernel delivers that with the lowest number (signal(7)).
    """
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: _has_stopped(pid), f"the stop of process {pid}")


def _has_stopped(pid: int) -> bool:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return all(task.joinpath("stat").read_text().rpartition(")")[2].split()[0] == "T" for task in tasks)


def _read_session(pid: int) -> int | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[3])
