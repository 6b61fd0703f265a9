"""Starts worker processes, with a socket to the parent on standard input, and the parent's settings.

SIGINT, SIGTERM and SIGUSR1 are blocked in a worker until it ignores them: Ctrl-C reaches all processes of a terminal, a
worker follows only the parent's orders, and the parent may pass SIGUSR1 on before the worker handles it.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import Iterator

from maesh_core.process.starting import start_process
from maesh_core.proxy.workers.memory_keeper import MemoryKeeper
from maesh_core.proxy.workers.memory_messages import DESCRIPTORS_VARIABLE
from maesh_core.settings.handover import PARENT_PIPE_VARIABLE, PROXY_SETTINGS_VARIABLE

WORKER_COMMAND = (sys.executable, "-P", "-m", "maesh_core.proxy.worker.program")
"""`-P` prevents a file in the working directory from replacing a module of the proxy."""
ALLOCATOR_SETTINGS = {"MALLOC_MMAP_THRESHOLD_": str(4 << 20), "MALLOC_TRIM_THRESHOLD_": str(16 << 20)}
"""Settings for glibc; the environment overrides them. Large bodies allocate and free buffers of up to 250 KB. By
default, glibc gets their pages from the kernel and returns them each time, which took 40 % of the CPU for bodies of
1 MiB."""
_BLOCKED_SIGNALS = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGUSR1})


class SpawnedWorker:
    """A worker's process."""

    __slots__ = ("_process", "pid", "socket")

    def __init__(self, process: Process, sock: socket.socket) -> None:
        self._process = process
        self.pid = process.pid
        self.socket = sock

    def __repr__(self) -> str:
        """Show the process id."""
        return f"<SpawnedWorker pid={self.pid} status={self._process.returncode}>"

    async def wait(self) -> int:
        """Wait for its end; return its status, which is negative for a signal."""
        return await self._process.wait()

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(signal.SIGKILL)

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)


class WorkerSpawner:
    """Starts the worker of a slot when called, one at a time. Takes the text from `render_proxy_settings`."""

    __slots__ = ("_keeper", "_lock", "_settings_text")

    def __init__(self, settings_text: str, keeper: MemoryKeeper) -> None:
        self._settings_text = settings_text
        self._keeper = keeper
        self._lock = (
            asyncio.Lock()
        )  # the mask of blocked signals belongs to the process, so only one start may change it

    async def __call__(self, slot: int) -> SpawnedWorker:
        """Start a worker. Raises OSError."""
        async with self._lock:
            return await self._spawn(slot)

    async def _spawn(self, slot: int) -> SpawnedWorker:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        memory, arena = self._keeper.attach(slot)
        environment = {**ALLOCATOR_SETTINGS, **os.environ, PROXY_SETTINGS_VARIABLE: self._settings_text}
        environment[DESCRIPTORS_VARIABLE] = f"{slot},{memory.fileno()},{arena}"
        environment.pop(PARENT_PIPE_VARIABLE, None)
        try:
            with _signals_blocked():
                process = await start_process(
                    *WORKER_COMMAND,
                    stdin=theirs.fileno(),
                    pass_fds=(memory.fileno(), arena),
                    env=environment,
                )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            memory.close()
        return SpawnedWorker(process, ours)


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
