"""Runs a mesh on one machine: the controller in this process, and the proxy as a child process.

Takes the settings of `maesh up` and the controller's halves of the plugins. Prints a report when the mesh is ready, and
runs until it is stopped or a part of it ends. Never leaves a process running.
"""

import asyncio
import contextlib
import dataclasses
import signal
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

from maesh_core.cli.local_mesh.child import ProxyChild
from maesh_core.cli.local_mesh.findings import HeldFindings
from maesh_core.cli.local_mesh.ports import check_entrypoints, check_ports, find_local_host
from maesh_core.cli.local_mesh.report import build_top_command, render_report, render_report_line
from maesh_core.controller.run import Controller, run_controller
from maesh_core.errors import StartupError
from maesh_core.plugin_system.loading import LoadedPlugins
from maesh_core.settings import CommonSettings, ControllerSettings, ProxySettings, UpSettings

_POLL_PAUSE_S = 0.03
_POLL_TIMEOUT_S = 2.0
_STOP_MARGIN_S = 4.0
"""How long after the drain time-out a stopped part is killed."""
_HOLD_LIMIT_S = 5.0
"""If the start takes longer, the held log lines are written."""

SettingsT = TypeVar("SettingsT", bound=CommonSettings)


class Mesh:
    """A controller and its proxy. `findings` holds the log lines that the report repeats."""

    __slots__ = ("_child", "_findings", "_is_interrupted", "_is_ready", "_plugins", "_print", "_settings")

    def __init__(
        self,
        settings: UpSettings,
        plugins: LoadedPlugins,
        print_: Callable[[str], None],
        *,
        findings: HeldFindings | None = None,
    ) -> None:
        self._settings = settings
        self._plugins = plugins
        self._print = print_
        self._findings = findings or HeldFindings()
        self._child: ProxyChild | None = None
        self._is_interrupted = self._is_ready = False

    def __repr__(self) -> str:
        return f"<Mesh child={self._child!r}>"

    def abort(self) -> None:
        """Kill the child, because this process is about to end."""
        if self._child is not None:
            self._child.kill()

    def note_interrupt(self) -> None:
        """Note that Ctrl-C was pressed: the child then prints what it waits for."""
        self._is_interrupted = True

    def describe_wait(self) -> str:
        """Return what a slow end waits for, or nothing if the child has printed it."""
        if self._child is None:
            return "waiting for the controller to end"
        limit_s = self._settings.drain_timeout + _STOP_MARGIN_S
        return "" if self._child.has_printed_wait else f"waiting up to {limit_s:g} s for the proxy to end"

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set; raises StartupError if a part ends unexpectedly."""
        admin_port = check_ports(self._settings)
        stopped = asyncio.create_task(stop.wait())
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, self._reopen_files)
        try:
            async with self._run_controller(stopped) as (running, controller):
                if controller is None:
                    return
                check_entrypoints(self._settings, controller.service_reports())
                async with self._run_child(controller.api_port, admin_port) as child:
                    await self._serve(child, controller, admin_port, ends=(stopped, running, child.exited))
                    if not stopped.done():
                        await _raise_end(running, child)
        finally:
            loop.remove_signal_handler(signal.SIGUSR1)
            stopped.cancel()
            self._findings.release()

    def _reopen_files(self) -> None:
        """Pass SIGUSR1 on to the proxy. Before it is ready, its files are new, and the signal could end it."""
        if self._child is not None and self._is_ready:
            self._child.reopen_files()

    @contextlib.asynccontextmanager
    async def _run_controller(
        self, stopped: "asyncio.Task[bool]"
    ) -> "AsyncIterator[tuple[asyncio.Task[None], Controller | None]]":
        """Run the controller. Yields its task and, when it is ready, the controller; None if it is stopped before."""
        ready: asyncio.Future[Controller] = asyncio.get_running_loop().create_future()
        end = asyncio.Event()
        settings = build_controller_settings(self._settings)
        running = asyncio.create_task(run_controller(settings, self._plugins, ready=ready.set_result, stop=end))
        try:
            await asyncio.wait((ready, running, stopped), return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                await running
                raise StartupError("the controller ended before it was ready")
            yield running, ready.result() if ready.done() else None
        finally:
            end.set()
            await _end_task(running)

    @contextlib.asynccontextmanager
    async def _run_child(self, api_port: int, admin_port: int) -> AsyncIterator[ProxyChild]:
        child = await ProxyChild.start(build_proxy_settings(self._settings, api_port=api_port, admin_port=admin_port))
        self._child = child
        try:
            yield child
        finally:
            # While Python starts, SIGINT would cause a traceback, and there is nothing to wait for.
            number = signal.SIGINT if self._is_interrupted and self._is_ready else signal.SIGTERM
            await child.stop(self._settings.drain_timeout + _STOP_MARGIN_S, number=number)

    async def _serve(
        self,
        child: ProxyChild,
        controller: Controller,
        admin_port: int,
        *,
        ends: "tuple[asyncio.Task[Any], ...]",
    ) -> None:
        """Print the report when the proxy is ready, and return when one of `ends` is done."""
        report = asyncio.create_task(self._report_when_ready(controller, admin_port))
        try:
            await asyncio.wait((report, *ends), return_when=asyncio.FIRST_COMPLETED)
            if report.done():
                await report
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _end_task(report, timeout_s=0)

    async def _report_when_ready(self, controller: Controller, admin_port: int) -> None:
        """Wait for the proxy's first configuration, then print the report."""
        host = find_local_host(self._settings.bind)
        is_ready = False
        hold_end = asyncio.get_running_loop().call_later(_HOLD_LIMIT_S, self._findings.release)
        try:
            while not is_ready:
                await asyncio.sleep(_POLL_PAUSE_S)
                is_ready = await ask_ready(host, admin_port)
        finally:
            hold_end.cancel()
        self._is_ready = True
        reports = controller.service_reports()
        if self._settings.json:
            self._print(render_report_line(reports))
        else:
            objects = controller.object_reports()
            api_url = f"http://{host}:{controller.api_port}"
            page_url = f"{api_url}/" if controller.has_web_page else ""
            text = render_report(
                reports,
                host=host,
                api_url=api_url,
                objects=objects,
                page_url=page_url,
                top_command=build_top_command(api_url) if reports else "",
                conditions=await controller.check_conditions(),
            )
            self._print(text)
            self._findings.drop()


async def _raise_end(running: "asyncio.Task[None]", child: ProxyChild) -> None:
    """Raise an error with the reason why the mesh ended unexpectedly."""
    if running.done():
        await running
        raise StartupError("the controller ended unexpectedly")
    raise StartupError(child.explain())


async def ask_ready(host: str, port: int) -> bool:
    """Query a proxy's admin port whether it has its first configuration; False without a response."""
    try:
        async with asyncio.timeout(_POLL_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(host.strip("[]"), port)
            try:
                writer.write(f"GET /ready HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
                line = await reader.readline()
            finally:
                writer.close()
    except (OSError, ValueError):  # TimeoutError is an OSError; ValueError: a line without end
        return False
    return line.split(b" ")[1:2] == [b"200"]


async def _end_task(task: "asyncio.Task[None]", *, timeout_s: float = _STOP_MARGIN_S) -> None:
    """Give a task time to end, then cancel it. Its error is raised where the task is awaited."""
    await asyncio.wait((task,), timeout=timeout_s)
    task.cancel()
    await asyncio.wait((task,))


def build_controller_settings(settings: UpSettings) -> ControllerSettings:
    """Build the controller's settings from those of `up`."""
    return _pick(ControllerSettings, settings, api_host=settings.bind, api_clear=True)


def build_proxy_settings(settings: UpSettings, *, api_port: int, admin_port: int) -> ProxySettings:
    """Build the proxy's settings from those of `up`."""
    endpoint = f"http://{find_local_host(settings.bind)}:{api_port}"
    return _pick(
        ProxySettings, settings, endpoint=endpoint, admin_host=settings.bind, admin_port=admin_port, admin_clear=True
    )


def _pick(class_: type[SettingsT], settings: UpSettings, **others: Any) -> SettingsT:
    names = {field.name for field in dataclasses.fields(class_)} & {
        field.name for field in dataclasses.fields(settings)
    }
    return class_(**{name: getattr(settings, name) for name in names} | others)
