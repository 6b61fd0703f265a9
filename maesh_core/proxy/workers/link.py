"""The parent's connection to one worker: its process, its channel, and pending orders.

Takes a started process and the parent's end of its channel; returns the reports of orders, and signals when the worker
has ended. It makes no decisions: the pool does.
"""

import asyncio
import signal
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from maesh_core.errors import MaeshError
from maesh_core.proxy.workers.channel import Channel
from maesh_core.proxy.workers.messages import AnyReport, Counted, Draining, NotStarted, Order, Report, Started, Tapped


class WorkerProcess(Protocol):
    """A started process. `socket` is the parent's end of its channel."""

    pid: int
    socket: socket.socket

    def wait(self) -> Awaitable[int]:
        """Wait for its end; return its status, which is negative for a signal."""

    def kill(self) -> None:
        """Kill it; no error if it has ended."""

    def send_signal(self, number: int) -> None:
        """Send it a signal; no error if it has ended."""


class WorkerGoneError(MaeshError):
    """The worker ended before it answered."""


class WorkerLink:
    """The worker of a slot. `is_joined` means that it has the configuration and receives changes.

    `waiting` holds the connections that its drain waits for, by protocol; it is empty if the worker has ended.
    `refusal` is the reason why it could not start. `on_counted` is called with its counters, `on_tapped` with what it
    reports of taps.
    """

    __slots__ = (
        "_channel",
        "_on_counted",
        "_on_tapped",
        "_pending",
        "_process",
        "ended",
        "failure",
        "is_joined",
        "refusal",
        "slot",
        "started",
        "waiting",
    )

    def __init__(
        self,
        slot: int,
        process: WorkerProcess,
        *,
        on_counted: Callable[["WorkerLink", Counted], None] = lambda link, report: None,
        on_tapped: Callable[[Tapped], None] = lambda report: None,
    ) -> None:
        self.slot = slot
        self.is_joined = False
        self.failure = ""
        self.refusal = ""
        self._process = process
        self._on_counted = on_counted
        self._on_tapped = on_tapped
        self._pending: dict[int, asyncio.Future[Report]] = {}
        self._channel: Channel[AnyReport] = Channel(
            process.socket, AnyReport, on_message=self._on_report, on_closed=self._on_closed
        )
        self.started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting: asyncio.Future[Mapping[str, int]] = asyncio.get_running_loop().create_future()
        self.ended = asyncio.create_task(self._wait())

    def __repr__(self) -> str:
        """Show slot, process and state."""
        return f"<WorkerLink {self.slot} pid={self.pid} joined={self.is_joined} ended={self.ended.done()}>"

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def ask(self, order: Order, *, payload: bytes = b"", sockets: Sequence[socket.socket] = ()) -> Report:
        """Send an order, and wait for its report; raises WorkerGoneError."""
        if self._channel.is_closed:
            raise WorkerGoneError(f"worker {self.slot} is gone")
        answer: asyncio.Future[Report] = asyncio.get_running_loop().create_future()
        self._pending[order.number] = answer
        self._channel.send(order, payload=payload, sockets=sockets)
        try:
            return await answer
        finally:
            self._pending.pop(order.number, None)

    def send(self, order: Order, *, payload: bytes = b"") -> None:
        """Send an order that has no report."""
        self._channel.send(order, payload=payload)

    def close_channel(self) -> None:
        """Close the channel: the worker then aborts its connections and ends."""
        self._channel.close()

    def kill(self, failure: str) -> None:
        """Kill the worker; `failure` is the reason for the log."""
        self.failure = self.failure or failure
        self._process.kill()

    def send_signal(self, number: int) -> None:
        """Send a signal to the worker."""
        self._process.send_signal(number)

    def describe_end(self) -> str:
        """Return why the worker has ended."""
        if self.failure:
            return self.failure
        status = self.ended.result() if self.ended.done() else 0
        return (
            f"it ended with signal {signal.Signals(-status).name}" if status < 0 else f"it ended with status {status}"
        )

    async def _wait(self) -> int:
        try:
            return await self._process.wait()
        finally:
            self._channel.close_after_rest()  # its last messages may still be unread

    def _on_report(self, report: AnyReport, payload: bytes, descriptors: Sequence[int]) -> None:
        if isinstance(report, Counted):
            self._on_counted(self, report)
        if isinstance(report, Tapped):
            self._on_tapped(report)
        elif isinstance(report, Draining):
            self._note_waiting(report.waiting)
        elif isinstance(report, Started):
            if not self.started.done():
                self.started.set_result(None)
        elif isinstance(report, NotStarted):
            self.failure = self.refusal = report.text
        elif (answer := self._pending.get(report.number)) is not None and not answer.done():
            answer.set_result(report)

    def _note_waiting(self, waiting: Mapping[str, int]) -> None:
        if not self.waiting.done():
            self.waiting.set_result(waiting)

    def _on_closed(self, reason: str) -> None:
        self.is_joined = False
        self._note_waiting({})
        for answer in self._pending.values():
            if not answer.done():
                answer.set_exception(WorkerGoneError(f"worker {self.slot} is gone: {reason}"))
