"""The parent's hold on one worker: its process, the channel to it, and what it was asked.

Takes a process that was started and its end of the channel; gives the answers to orders, and when the worker has ended.
Decides nothing: the pool does.
"""

import asyncio
import signal
import socket
from collections.abc import Awaitable, Mapping, Sequence
from typing import Protocol

from maesh_core.errors import MaeshError
from maesh_core.proxy.workers.channel import Channel
from maesh_core.proxy.workers.messages import AnyReport, Counted, Draining, NotStarted, Order, Report, Started


class WorkerProcess(Protocol):
    """A process that was started. `socket` is the parent's end of the channel to it."""

    pid: int
    socket: socket.socket

    def wait(self) -> Awaitable[int]:
        """Wait for its end; give its status, below zero for a signal."""

    def kill(self) -> None:
        """End it at once; no error if it has ended."""


class WorkerGoneError(MaeshError):
    """The worker ended before it answered."""


class WorkerLink:
    """One worker of a slot. `is_joined` says that it has the configuration, and is told of changes.

    `waiting` has what it waits for, once it drains, by protocol: nothing if it has ended. `refusal` is why it said that
    it cannot start, `counts` are the counters it told last.
    """

    __slots__ = (
        "_asked",
        "_channel",
        "_process",
        "counts",
        "ended",
        "failure",
        "is_joined",
        "refusal",
        "slot",
        "started",
        "waiting",
    )

    def __init__(self, slot: int, process: WorkerProcess) -> None:
        self.slot = slot
        self.is_joined = False
        self.failure = ""
        self.refusal = ""
        self.counts: Counted | None = None
        self._process = process
        self._asked: dict[int, asyncio.Future[Report]] = {}
        self._channel: Channel[AnyReport] = Channel(
            process.socket, AnyReport, on_message=self._on_report, on_closed=self._on_closed
        )
        self.started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting: asyncio.Future[Mapping[str, int]] = asyncio.get_running_loop().create_future()
        self.ended = asyncio.create_task(self._wait())

    def __repr__(self) -> str:
        """Show who it is."""
        return f"<WorkerLink {self.slot} pid={self.pid} joined={self.is_joined} ended={self.ended.done()}>"

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def ask(self, order: Order, *, payload: bytes = b"", sockets: Sequence[socket.socket] = ()) -> Report:
        """Give an order, and wait for the report on it; raises WorkerGoneError."""
        if self._channel.is_closed:
            raise WorkerGoneError(f"worker {self.slot} is gone")
        answer: asyncio.Future[Report] = asyncio.get_running_loop().create_future()
        self._asked[order.number] = answer
        self._channel.send(order, payload=payload, sockets=sockets)
        try:
            return await answer
        finally:
            self._asked.pop(order.number, None)

    def tell(self, order: Order) -> None:
        """Give an order that is not answered."""
        self._channel.send(order)

    def cut(self) -> None:
        """Close the channel: the worker cuts what is under way, and ends."""
        self._channel.close()

    def kill(self, failure: str) -> None:
        """End the worker at once; `failure` says why, to a person."""
        self.failure = self.failure or failure
        self._process.kill()

    def describe_end(self) -> str:
        """Say why the worker has ended."""
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
            self._channel.close_after_rest()  # its last words may still wait there

    def _on_report(self, report: AnyReport, payload: bytes, descriptors: Sequence[int]) -> None:
        if isinstance(report, Counted):
            self.counts = report
        if isinstance(report, Draining):
            self._note_waiting(report.waiting)
        elif isinstance(report, Started):
            if not self.started.done():
                self.started.set_result(None)
        elif isinstance(report, NotStarted):
            self.failure = self.refusal = report.text
        elif (answer := self._asked.get(report.number)) is not None and not answer.done():
            answer.set_result(report)

    def _note_waiting(self, waiting: Mapping[str, int]) -> None:
        if not self.waiting.done():
            self.waiting.set_result(waiting)

    def _on_closed(self, reason: str) -> None:
        self.is_joined = False
        self._note_waiting({})
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(WorkerGoneError(f"worker {self.slot} is gone: {reason}"))
