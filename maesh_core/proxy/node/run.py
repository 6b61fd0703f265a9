"""Runs one node: connects poller, configuration, workers, entrypoints and admin port.

Runs in the parent, on plain asyncio, and routes no traffic itself (maesh_core/proxy/workers). Decides when the node is
ready (`Node.is_ready`). Takes checked settings; returns an exit status when it is asked to end. If a part of it ends
unexpectedly, it raises the error.
"""

import asyncio
import logging
import signal
import socket
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from maesh_core import engine
from maesh_core.errors import StartupError, UpdateRejectedError
from maesh_core.plain_http.server import HttpServer, ServerLimits
from maesh_core.process.interruption import tell_wait
from maesh_core.process.open_files import find_open_files_limit, raise_open_files_limit
from maesh_core.proxy.network.sockets import describe_address, describe_reason, open_sockets
from maesh_core.proxy.node.admin import AdminPages, ProxyStatus, build_text
from maesh_core.proxy.node.admin_security import AdminSecurity, NodeSecurity
from maesh_core.proxy.node.configuration import NodeConfiguration
from maesh_core.proxy.node.entrypoints import Entrypoints
from maesh_core.proxy.node.fetch import Fetcher, find_source_host, parse_endpoint
from maesh_core.proxy.node.metrics import MetricsPage, collect_node_metrics
from maesh_core.proxy.node.poller import Poller
from maesh_core.proxy.node.services import LoadServices, NodeServices
from maesh_core.proxy.node.shared_reports import SharedReports, join_reports
from maesh_core.proxy.node.shutdown import Shutdown, describe_connections
from maesh_core.proxy.node.taps import NodeTaps
from maesh_core.proxy.node.traffic_history import TrafficHistory
from maesh_core.proxy.worker.memory_settings import settle_memory
from maesh_core.proxy.worker.parent_watch import follow_parent
from maesh_core.proxy.workers.link import WorkerLink
from maesh_core.proxy.workers.memory_keeper import ARENA_BYTES, MemoryKeeper
from maesh_core.proxy.workers.messages import CollectReport
from maesh_core.proxy.workers.pool import Spawn, WorkerPool
from maesh_core.proxy.workers.spawning import WorkerSpawner
from maesh_core.settings import ProxySettings
from maesh_core.settings.handover import render_proxy_settings

if TYPE_CHECKING:
    from maesh_core.proxy.node.configuration_cache import ConfigurationCache

SCRAPE_LIMIT_S = 1.0
"""The time for workers to report their counters at a scrape; for slower workers, the last counters are used."""
ADMIN_CLIENTS = 256
"""Connections to the admin port; probes and scrapes use one each."""
ADMIN_ADDRESS_SHARE = 4
"""An address other than loopback may have a quarter of these connections without a certificate."""
CACHE_GRACE_S = 1.0
"""The time for the controller to answer the first pull before the cached configuration is applied."""
CACHE_PAUSE_S = 1.0
"""The least time between two writes of the cache."""

logger = logging.getLogger(__name__)


class Node:
    """The parts of one node, and their lifecycle. Create it in the event loop; run it once."""

    __slots__ = (
        "_admin",
        "_admin_security",
        "_cache",
        "_configuration",
        "_entrypoints",
        "_fetcher",
        "_has_failed_pull",
        "_is_ending",
        "_poller",
        "_pool",
        "_services",
        "_settings",
        "_taps",
        "_traffic",
    )

    def __init__(self, settings: ProxySettings, spawn: Spawn, load_services: LoadServices | None = None) -> None:
        endpoint = parse_endpoint(settings.endpoint)
        self._settings = settings
        self._is_ending = False
        self._has_failed_pull = asyncio.Event()
        self._pool = WorkerPool(
            spawn,
            self._introduce,
            size=settings.workers,
            is_known_service=lambda key: self._configuration.encoded.has_service(key),
        )
        self._taps = NodeTaps(self._pool)
        self._traffic = TrafficHistory(self._pool.collect_metrics)
        self._entrypoints = Entrypoints(self._pool, bind=settings.bind)
        self._configuration = NodeConfiguration(
            self._pool, self._entrypoints, share=lambda values: self._services.share(values)
        )
        self._fetcher = Fetcher(
            endpoint,
            source_host=find_source_host(endpoint, settings.admin_host),
            root_ca=settings.root_ca_controller,
            token_file=settings.controller_token,
        )
        self._admin_security = AdminSecurity(
            self._build_admin_pages(),
            host=settings.admin_host,
            is_clear=settings.admin_clear,
            open_paths=settings.admin_open,
        )
        clients = _choose_admin_clients()
        limits = ServerLimits(clients=clients, address_clients=max(1, clients // ADMIN_ADDRESS_SHARE))
        self._admin = HttpServer(self._admin_security.answer, build_text, limits)
        self._admin_security.attach(self._admin)
        security = NodeSecurity(self._admin_security, self._fetcher)
        self._services = NodeServices(settings, self._pool, load_services, name=settings.node, security=security)
        if self._services.wants_names:
            self._configuration.share_names = self._services.share_names
        self._poller = Poller(
            self._fetcher,
            self._apply,
            node=settings.node,
            read_facts=self._services.read_facts,
            find_admin_port=lambda: self._admin.port,  # with `--admin-port 0`, the system chooses the port
            has_admin_tls=lambda: self._admin_security.is_protected,
            on_failure=self._has_failed_pull.set,
        )
        self._services.on_facts = self._poller.report_facts
        self._cache = _build_cache(settings.configuration_cache, endpoint=str(endpoint))

    def __repr__(self) -> str:
        """Show the state."""
        return f"<Node ready={self.is_ready} {self._configuration!r} {self._pool!r}>"

    @property
    def is_ready(self) -> bool:
        """Whether to receive traffic: every worker has had its first configuration, and at least one is running.

        Services of plugins may need more time, such as for a first certificate.
        """
        is_served = self._configuration.applied > 0 and self._pool.has_been_full and bool(self._pool.joined)
        return is_served and not self._is_ending and not self._services.is_starting

    def follow_reopen_signal(self) -> None:
        """Pass SIGUSR1 on to the workers: files that are written, such as access logs, are then opened again."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, self._pool.send_signal, signal.SIGUSR1)

    async def run(self, shutdown: Shutdown) -> int:
        """Run until asked to end; return the exit status. Raises the error of a part that ended unexpectedly."""
        following: list[asyncio.Task[None]] = []
        async with AsyncExitStack() as stack:
            stack.push_async_callback(asyncio.sleep, 0)  # aborted transports close in the next turn of the loop
            stack.push_async_callback(self._fetcher.close)
            stack.push_async_callback(self._admin.close)
            stack.callback(self._taps.close)
            stack.callback(self._entrypoints.release)
            pooling = _start(self._pool.run())
            stack.push_async_callback(_cancel, [pooling])
            stack.push_async_callback(self._pool.close)
            stack.push_async_callback(_cancel, following)
            stack.callback(self._note_end)
            await self._open_admin_port()
            following += [_start(each) for each in self._list_works()]
            settle_memory()
            await _wait_unless_ended(shutdown.requested, [pooling, *following])
            self._note_end()
            await _cancel(following)
            self._entrypoints.release()
            await self._drain(shutdown)
        return 1 if shutdown.forced.is_set() else 0

    def _list_works(self) -> "list[Coroutine[Any, Any, None]]":
        """List what runs until the end is requested, beside the workers."""
        works = [self._pull(), self._entrypoints.run(), self._traffic.run(self._collect), self._services.run()]
        return works if self._cache is None else [*works, self._keep_cache(self._cache)]

    def _note_end(self) -> None:
        """Be ready no longer."""
        self._is_ending = True

    async def _drain(self, shutdown: Shutdown) -> None:
        """Drain the workers; report what they wait for on the terminal (after Ctrl-C), or in the log."""
        limit_s = self._settings.drain_timeout

        def tell(waiting: Mapping[str, int]) -> None:
            text = f"waiting up to {limit_s:g} s for {describe_connections(waiting)} to end"
            if shutdown.is_interrupt:
                tell_wait(text)
            else:
                logger.info("%s; a second signal ends the proxy at once", text)

        await self._pool.drain(shutdown.forced.wait(), limit_s, on_waiting=tell)

    async def _introduce(self, link: WorkerLink) -> None:
        """Introduce a new worker to the configuration, then to the active taps. Raises ValueError with a reason.

        What services have handed over comes first, since the configuration's connections need it.
        """
        version = self._services.introduce(link)
        await self._configuration.introduce(link)
        self._services.introduce(link, since=version)
        self._taps.introduce(link)

    async def _apply(self, body: bytes, since: str | None) -> str:
        revision = await self._configuration.apply(body, since)
        self._services.note_configured()
        return revision

    async def _pull(self) -> None:
        """Pull once a worker could start; if none can, the node logs only that error."""
        await self._pool.started.wait()
        await self._poller.run()

    async def _open_admin_port(self) -> None:
        host, port = self._settings.admin_host, self._settings.admin_port
        try:
            await self._admin.listen(*open_sockets("TCP", host, port))
        except OSError as error:
            raise StartupError(
                f"cannot listen on {describe_address(host, port)} (--admin-port): {describe_reason(error)}"
            ) from error

    async def _keep_cache(self, cache: "ConfigurationCache") -> None:
        """Apply the cached configuration if the controller is unreachable; cache every applied configuration."""
        cached = await cache.load()
        if cached is not None:
            await _wait_at_most(self._has_failed_pull, self._configuration.changed, limit_s=CACHE_GRACE_S)
            await self._serve_cached(cached)
        del cached
        while True:
            await self._configuration.changed.wait()
            self._configuration.changed.clear()
            await cache.store(self._configuration.encoded.without_pods().render())
            await asyncio.sleep(CACHE_PAUSE_S)

    async def _serve_cached(self, cached: bytes) -> None:
        try:
            if await self._configuration.apply_first(cached):
                self._services.note_configured()
                logger.warning("the controller is unreachable: applied the cached configuration")
        except UpdateRejectedError as error:
            logger.error("ignoring the cached configuration: %s", error)

    def _build_admin_pages(self) -> AdminPages:
        page = MetricsPage(
            [
                self._pool.collect_metrics,
                lambda: collect_node_metrics(self._configuration, self._poller, self._entrypoints, self._pool),
                lambda: self._services.collect_metrics(),
                lambda: self._admin_security.collect_metrics(),
            ]
        )

        async def render_metrics(accept: str) -> tuple[bytes, str]:
            await self._collect()
            return page.render(accept)

        async def render_traffic() -> bytes:
            await self._collect()
            return self._traffic.render()

        async def collect_report(name: str) -> bytes | None:
            return join_reports(await self._pool.ask_in_time(CollectReport(name=name), SCRAPE_LIMIT_S))

        return AdminPages(
            is_ready=lambda: self.is_ready,
            read_status=self._read_status,
            render_metrics=render_metrics,
            render_traffic=render_traffic,
            render_report=SharedReports(collect_report).render,
            render_configuration=self._configuration.render,
            open_tap=self._taps.open,
        )

    async def _collect(self) -> None:
        """Collect fresh counters from the workers."""
        await self._pool.collect(SCRAPE_LIMIT_S)

    def _read_status(self) -> ProxyStatus:
        return ProxyStatus(
            revision=self._configuration.revision,
            ready=self.is_ready,
            workers=len(self._pool.joined),
            engine=engine.form,
            refused=self._configuration.list_refused(),
            services=self._services.read_state() or msgspec.UNSET,
        )


def _choose_admin_clients() -> int:
    """Return the client limit of the admin port: at most a quarter of the descriptors."""
    open_files = find_open_files_limit()
    return ADMIN_CLIENTS if open_files is None else min(ADMIN_CLIENTS, max(1, open_files // 4))


async def run_proxy(
    settings: ProxySettings,
    *,
    shutdown: Shutdown | None = None,
    spawn: Spawn | None = None,
    load_services: LoadServices | None = None,
) -> int:
    """Run a node until signals or the parent's end ask it to end; return the exit status.

    If `shutdown` is given, it is used instead of signals. `load_services` loads the services of plugins that run in
    this process. Raises StartupError, and unexpected errors of its parts.
    """
    raise_open_files_limit()
    settings = replace(settings, node=settings.node or socket.gethostname())  # workers need the same name
    keeper = MemoryKeeper(ARENA_BYTES * max(1, settings.workers))
    try:
        node = Node(settings, spawn or WorkerSpawner(render_proxy_settings(settings), keeper), load_services)
        if shutdown is None:
            shutdown = Shutdown()
            shutdown.follow_signals()
            follow_parent(shutdown.request)
            node.follow_reopen_signal()
        return await node.run(shutdown)
    finally:
        keeper.close()


def _build_cache(path: str, *, endpoint: str) -> "ConfigurationCache | None":
    if not path:
        return None
    from maesh_core.proxy.node.configuration_cache import (
        ConfigurationCache,
    )  # imported only if used, since it takes 1.7 MB

    return ConfigurationCache(Path(path), endpoint=endpoint)


def _start(coroutine: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
    return asyncio.create_task(coroutine)


async def _wait_unless_ended(event: asyncio.Event, background: "Sequence[asyncio.Task[None]]") -> None:
    """Wait for the event; if a background task ends first, raise its error."""
    waiting = asyncio.create_task(event.wait())
    try:
        done, _ = await asyncio.wait([waiting, *background], return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
    for task in done - {waiting}:
        task.result()
        raise RuntimeError(f"{task.get_coro()} ended unexpectedly")


async def _cancel(tasks: "Sequence[asyncio.Task[None]]") -> None:
    """Cancel tasks, and wait until they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _wait_at_most(*events: asyncio.Event, limit_s: float) -> None:
    """Wait for one of the events, for at most `limit_s`."""
    waiting = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
