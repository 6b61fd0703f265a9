"""The proxy as a child process of `maesh up`.

Takes a proxy's settings. Forwards the child's log lines, keeps its last line, and ends it in bounded time. The child
has its own process group, so that Ctrl-C reaches only this process. It holds the read end of a pipe. When this process
ends for any reason, the pipe closes and the child ends too (proxy/worker/parent_watch.py).
"""

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process

from maesh_core.cli.programs import PROXY_COMMAND, build_proxy_environment
from maesh_core.process.interruption import AGAIN
from maesh_core.process.starting import start_process
from maesh_core.settings import ProxySettings
from maesh_core.settings.handover import PARENT_PIPE_VARIABLE

_ERROR_PREFIX = "maesh: error: "
_CHUNK_BYTES = 65536
_LAST_WORDS_LIMIT = 2000


class ProxyChild:
    """A running proxy. It ends when this process ends, at the latest."""

    __slots__ = ("_exited", "_last_line", "_pipe", "_process", "_pump")

    def __init__(self, process: Process, pipe: int) -> None:
        self._process = process
        self._pipe = pipe
        self._last_line = ""
        self._pump = asyncio.create_task(self._pass_on_lines())
        self._exited = asyncio.create_task(self._wait())

    def __repr__(self) -> str:
        return f"<ProxyChild pid={self._process.pid} status={self._process.returncode}>"

    @classmethod
    async def start(cls, settings: ProxySettings) -> "ProxyChild":
        """Start a proxy with these settings."""
        read_end, write_end = os.pipe()
        try:
            process = await start_process(
                *PROXY_COMMAND,
                stdin=read_end,
                stderr=PIPE,
                env={**build_proxy_environment(settings), PARENT_PIPE_VARIABLE: "0"},
                process_group=0,
            )
        except BaseException:
            os.close(write_end)
            raise
        finally:
            os.close(read_end)
        return cls(process, write_end)

    @property
    def exited(self) -> "asyncio.Task[None]":
        """Done when the child has ended and all its lines were forwarded."""
        return self._exited

    def explain(self) -> str:
        """Return why the child ended: its last line, if there is one."""
        if self._last_line.startswith(_ERROR_PREFIX):
            return self._last_line.removeprefix(_ERROR_PREFIX)
        words = f": {self._last_line}" if self._last_line else ""
        return f"the proxy ended with {self._describe_status()}{words}"

    def _describe_status(self) -> str:
        status = self._process.returncode
        if status is not None and status < 0:
            return f"signal {signal.Signals(-status).name}"
        return f"status {status}"

    @property
    def has_printed_wait(self) -> bool:
        """Whether the child has printed what it waits for before it ends."""
        return AGAIN in self._last_line

    def reopen_files(self) -> None:
        """Let the child open the files that it writes again, such as access logs."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGUSR1)

    async def stop(self, timeout_s: float, *, number: int = signal.SIGTERM) -> None:
        """Signal the child to drain and end. After the time-out, kill it with all processes that it started."""
        try:
            if self._process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    self._process.send_signal(number)
                await asyncio.wait([self._exited], timeout=timeout_s)
        finally:
            self.kill()
            await self._exited
            os.close(self._pipe)

    def kill(self) -> None:
        """Kill the child and all processes that it started."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def _wait(self) -> None:
        await self._process.wait()
        # A process that the child started may still hold its standard error, so the wait is limited.
        await asyncio.wait([self._pump], timeout=1)
        self._pump.cancel()

    async def _pass_on_lines(self) -> None:
        """Forward the output of the child line by line; the line that explains its end is kept for `explain`."""
        stream = self._process.stderr
        assert stream is not None  # noqa: S101 - the process was started with a pipe
        rest = b""
        while chunk := await stream.read(_CHUNK_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._pass_on(line)
        if rest:
            self._pass_on(rest)

    def _pass_on(self, line: bytes) -> None:
        text = line.decode(errors="replace")
        if text.strip():
            self._last_line = text.strip()[:_LAST_WORDS_LIMIT]
        if not text.startswith(_ERROR_PREFIX):
            print(text, file=sys.stderr, flush=True)  # noqa: T201 - log lines go to standard error
