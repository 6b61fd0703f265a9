"""Executes the parent's orders in one worker, and sends the reports.

Takes the worker's end of a channel and a runtime. Orders are executed in sequence, except that counters and reports
are sent, taps changed and payloads handed over at once. Ends when an ordered drain is complete, or when the parent is
gone.
"""

import asyncio
import logging
import socket
from collections.abc import Mapping, Sequence

from maesh_core.errors import UpdateRejectedError
from maesh_core.proxy.network.sockets import describe_reason
from maesh_core.proxy.worker.memory_settings import settle_memory
from maesh_core.proxy.worker.runtime import WorkerRuntime, close_descriptors
from maesh_core.proxy.worker.taps import WorkerTaps
from maesh_core.proxy.workers.channel import Channel
from maesh_core.proxy.workers.messages import (
    AnyOrder,
    Applied,
    ApplyUpdate,
    Collect,
    CollectReport,
    Counted,
    Done,
    Drain,
    Draining,
    Failed,
    HandOver,
    Listen,
    Report,
    Reported,
    Started,
    StartTap,
    StopTap,
)

logger = logging.getLogger(__name__)

_Received = tuple[AnyOrder, bytes, Sequence[int]]


class OrderExecutor:
    """Executes orders until the worker ends. Run it once, in the event loop in which it was created."""

    __slots__ = ("_channel", "_is_settled", "_orders", "_refused", "_runtime", "_serving", "_taps")

    def __init__(self, sock: socket.socket, runtime: WorkerRuntime) -> None:
        self._runtime = runtime
        self._orders: asyncio.Queue[_Received] = asyncio.Queue()
        self._serving: asyncio.Task[None] | None = None
        self._refused: Mapping[str, str] | None = None
        self._is_settled = False
        self._channel: Channel[AnyOrder] = Channel(
            sock, AnyOrder, on_message=self._on_order, on_closed=self._on_parent_gone
        )
        self._taps = WorkerTaps(runtime.observers, self._channel.send, has_unsent=lambda: self._channel.has_unsent)

    def __repr__(self) -> str:
        """Show the runtime."""
        return f"<OrderExecutor {self._channel!r} {self._runtime!r}>"

    async def run(self) -> None:
        """Execute orders until a drain or the parent's end; then abort remaining connections."""
        self._serving = asyncio.create_task(self._serve())
        try:
            await asyncio.wait([self._serving])
            if not self._serving.cancelled():
                self._serving.result()
        finally:
            self._serving.cancel()
            await self._runtime.abort()
            self._channel.close()
            while not self._orders.empty():
                close_descriptors(self._orders.get_nowait()[2])

    def _on_order(self, order: AnyOrder, payload: bytes, descriptors: Sequence[int]) -> None:
        if isinstance(order, Collect):
            self._channel.send(Counted(number=order.number, families=self._runtime.collect_metrics()))
        elif isinstance(order, CollectReport):
            self._channel.send(self._build_report(order))
        elif isinstance(order, StartTap):
            self._taps.start(order)
        elif isinstance(order, StopTap):
            self._taps.stop(order.tap)
        elif isinstance(order, HandOver):
            self._runtime.receive(order.name, payload)
        else:
            self._orders.put_nowait((order, payload, descriptors))

    def _build_report(self, order: CollectReport) -> Report:
        try:
            body = self._runtime.build_report(order.name)
        except Exception:  # a plugin's code may raise anything
            logger.exception("report %s failed", order.name)
            body = None
        if body is None:
            return Failed(number=order.number, text=f"there is no report {order.name}")
        return Reported(number=order.number, body=body)

    def _on_parent_gone(self, reason: str) -> None:
        logger.debug("the channel to the parent ended: %s", reason)
        if self._serving is not None:
            self._serving.cancel()

    async def _serve(self) -> None:
        self._channel.send(Started())
        settle_memory()
        while not self._channel.is_closed:
            order, payload, descriptors = await self._orders.get()
            if isinstance(order, Drain):
                await self._runtime.drain(lambda waiting: self._channel.send(Draining(waiting=waiting)))
                self._taps.flush()
                self._channel.send(Counted(families=self._runtime.collect_metrics()))
                await self._channel.flush()
                return
            self._channel.send(await self._execute(order, payload, descriptors))

    async def _execute(self, order: AnyOrder, payload: bytes, descriptors: Sequence[int]) -> Report:
        number = order.number
        if isinstance(order, ApplyUpdate):
            return self._apply(order, payload)
        if isinstance(order, Listen):
            try:
                await self._runtime.listen(order.entrypoint, descriptors)
            except OSError as error:
                return Failed(number=number, text=describe_reason(error))
        elif not isinstance(order, Drain | Collect | CollectReport | StartTap | StopTap | HandOver):
            await self._runtime.unlisten(order.entrypoint)
        return Done(number=number)

    def _apply(self, order: ApplyUpdate, payload: bytes) -> Report:
        try:
            self._runtime.apply_update(payload, order.since)
        except UpdateRejectedError as error:
            return Failed(number=order.number, text=str(error))
        if not self._is_settled:
            self._is_settled = True
            self._runtime.settle()
            asyncio.get_running_loop().call_soon(settle_memory)
        configuration = self._runtime.configuration
        is_news = configuration.refused != self._refused
        self._refused = configuration.refused
        return Applied(
            number=order.number,
            entrypoints=sorted(configuration.list_entrypoints()),
            refused=self._refused if is_news else None,
        )
