"""One proxy, from its settings to its end: joins puller, configuration, entrypoints, protocols and admin port.

Takes checked settings and loaded plugins; ends when it is told to, with an exit status, or with an error: no part may
end unseen. The only module of the proxy that knows all the others.
"""

import asyncio
import contextlib
import gc
import logging
import resource
import signal
import socket
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Protocol

from maesh_core.errors import PluginError, StartupError
from maesh_core.hookspecs import Exchange, MiddlewareFactory, ProtocolHandler, Response
from maesh_core.model.messages import Update
from maesh_core.proxy.admin import AdminPages, ProxyStatus
from maesh_core.proxy.entrypoints import Entrypoints
from maesh_core.proxy.fetch import Fetcher, parse_endpoint
from maesh_core.proxy.listening import Listening, close_listening, open_listening
from maesh_core.proxy.metrics import MetricsPage, collect_proxy_metrics
from maesh_core.proxy.parent import follow_parent
from maesh_core.proxy.poller import Poller
from maesh_core.proxy.protocol.http.handler import HttpHandler, build_local_handler
from maesh_core.proxy.protocol.tcp.handler import TcpHandler
from maesh_core.proxy.routing.configuration import RoutingConfiguration
from maesh_core.proxy.sockets import describe_address, describe_reason
from maesh_core.settings import ProxySettings

DRAIN_POLL_S = 0.02
"""How often the protocols are asked whether they are drained."""
GC_THRESHOLDS = (50_000, 20, 20)
"""Exchanges leave no cycles behind, so the collector may come seldom."""

logger = logging.getLogger(__name__)


class Plugins(Protocol):
    """The enabled plugins, loaded."""

    names: tuple[str, ...]

    def collect(self, hook_name: str) -> list[Any]:
        """Give what every implementation of a hook returned."""


class Shutdown:
    """That the process is asked to end: `requested` once, `forced` when asked again. Made in the event loop."""

    __slots__ = ("forced", "requested")

    def __init__(self) -> None:
        self.requested = asyncio.Event()
        self.forced = asyncio.Event()

    def __repr__(self) -> str:
        """Show what was asked."""
        return f"<Shutdown requested={self.requested.is_set()} forced={self.forced.is_set()}>"

    def request(self) -> None:
        """Ask to end; the second time, to end at once."""
        if self.requested.is_set():
            self.forced.set()
        self.requested.set()

    def follow_signals(self) -> None:
        """Take SIGTERM and SIGINT as requests."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.request)


class ProxyProcess:
    """The parts of one proxy, and their common life. Made in the event loop; run once."""

    __slots__ = (
        "_admin_handler",
        "_admin_port",
        "_configuration",
        "_entrypoints",
        "_fetcher",
        "_handlers",
        "_is_ready",
        "_poller",
        "_settings",
    )

    def __init__(self, settings: ProxySettings, plugins: Plugins) -> None:
        endpoint = parse_endpoint(settings.endpoint)
        self._settings = settings
        self._handlers: Mapping[str, ProtocolHandler] = _index(
            "protocol", [(each.name, each) for each in plugins.collect("maesh_protocol_handlers")]
        )
        factories: Mapping[str, MiddlewareFactory] = _index(
            "middleware kind", [(each.kind, each) for each in plugins.collect("maesh_middleware_factories")]
        )
        core: tuple[ProtocolHandler, ...] = (HttpHandler(settings), TcpHandler(settings))
        for handler in core:
            if handler.name in self._handlers:
                claimant = _name_type(self._handlers[handler.name])
                raise PluginError(f"protocol {handler.name} is the core's, and {claimant} claims it too")
        self._handlers = {**{handler.name: handler for handler in core}, **self._handlers}
        self._configuration = RoutingConfiguration(self._handlers, factories, plugins=plugins.names)
        self._entrypoints = Entrypoints(self._handlers, bind=settings.bind)
        self._fetcher = Fetcher(endpoint)
        self._poller = Poller(
            self._fetcher,
            self._apply,
            node=settings.node or socket.gethostname(),
            router_types=self._configuration.get_router_types(),
        )
        self._admin_handler = build_local_handler(settings, self._build_admin_pages())
        self._admin_port: Listening | None = None
        self._is_ready = False

    def __repr__(self) -> str:
        """Show what is in force."""
        return f"<ProxyProcess ready={self._is_ready} {self._configuration!r}>"

    async def run(self, shutdown: Shutdown) -> int:
        """Carry traffic until asked to end; give the exit status. Raises what ended a part of it, if one ended."""
        background = []
        try:
            await self._open_admin_port()
            background = [_start(self._poller.run()), _start(self._entrypoints.run())]
            settle_memory()
            await _wait_unless_ended(shutdown.requested, background)
            self._is_ready = False
            await _cancel(background)
            return await self._drain(shutdown)
        finally:
            await _cancel(background)
            await self._close()

    async def _apply(self, update: Update, since: str | None) -> None:
        """Put an update in force, and open and close what it asks for; the first one makes the proxy ready."""
        self._configuration.apply_update(update, since=since)
        wanted = self._configuration.list_entrypoints()
        is_first = self._configuration.applied == 1
        await self._entrypoints.apply(wanted, is_first=is_first)
        logger.info("revision %s is in force, %d entrypoints", update.revision, len(self._entrypoints.opened))
        if is_first:
            self._is_ready = True
            settle_memory()

    async def _open_admin_port(self) -> None:
        host, port = self._settings.admin_host, self._settings.admin_port
        try:
            self._admin_port = await open_listening(self._admin_handler, host, port)
        except OSError as error:
            raise StartupError(
                f"cannot listen on {describe_address(host, port)} (--admin-port): {describe_reason(error)}"
            ) from error

    async def _drain(self, shutdown: Shutdown) -> int:
        """Accept nothing more, wait for what is under way as long as the settings say; give the exit status."""
        await self._entrypoints.close()
        for handler in self._handlers.values():
            handler.start_draining()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.drain_timeout):
                while not shutdown.forced.is_set() and not all(each.is_drained() for each in self._handlers.values()):
                    await _wait_at_most(shutdown.forced, DRAIN_POLL_S)
        return 1 if shutdown.forced.is_set() else 0

    async def _close(self) -> None:
        self._is_ready = False
        await self._entrypoints.close()
        if self._admin_port is not None:
            await close_listening([self._admin_port])
        for handler in (*self._handlers.values(), self._admin_handler):
            handler.abort()
        await self._fetcher.close()
        await asyncio.sleep(0)  # transports that were aborted close in the next round of the loop

    def _build_admin_pages(self) -> Callable[[Exchange], Response]:
        sources = [handler.collect_metrics for handler in self._handlers.values()]
        return AdminPages(
            is_ready=lambda: self._is_ready,
            read_status=self._read_status,
            render_metrics=MetricsPage(
                [*sources, lambda: collect_proxy_metrics(self._configuration, self._poller, self._entrypoints)]
            ).render,
        )

    def _read_status(self) -> ProxyStatus:
        return ProxyStatus(
            revision=self._configuration.revision,
            ready=self._is_ready,
            workers=1,
            refused=self._configuration.list_refused(self._entrypoints.closed),
        )


async def run_proxy(settings: ProxySettings, plugins: Plugins, *, shutdown: Shutdown | None = None) -> int:
    """Run a proxy until it is asked to end, by signals or its parent's end unless `shutdown` is given; give the status.

    Raises StartupError, and whatever unforeseen error ended one of its parts.
    """
    if shutdown is None:
        shutdown = Shutdown()
        shutdown.follow_signals()
        follow_parent(shutdown.request)
    raise_open_files_limit()
    return await ProxyProcess(settings, plugins).run(shutdown)


def settle_memory() -> None:
    """Take what lives now out of the garbage collector's sight: it will stay, and would be walked each time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def raise_open_files_limit() -> None:
    """Use all the descriptors that the system grants: each connection takes one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # some systems name a hard limit that they do not grant
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _index(noun: str, named: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Sort by name what plugins gave; two of one name are an error."""
    found: dict[str, Any] = {}
    for name, value in sorted(named, key=lambda pair: pair[0]):
        if name in found:
            raise PluginError(f"{noun} {name} is claimed by both {_name_type(found[name])} and {_name_type(value)}")
        found[name] = value
    return found


def _name_type(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _start(coroutine: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
    return asyncio.create_task(coroutine)


async def _wait_unless_ended(event: asyncio.Event, background: "Sequence[asyncio.Task[None]]") -> None:
    """Wait for the event; a background task that ends before it raises what ended it."""
    waiting = asyncio.create_task(event.wait())
    try:
        done, _ = await asyncio.wait([waiting, *background], return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
    for task in done - {waiting}:
        task.result()
        raise RuntimeError(f"{task.get_coro()} ended by itself")


async def _cancel(tasks: "Sequence[asyncio.Task[None]]") -> None:
    """End tasks and wait until they have."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _wait_at_most(event: asyncio.Event, limit_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(limit_s):
            await event.wait()
