"""A worker as a program: `python -m maesh_core.proxy.worker.program`, which only the parent starts.

Takes its settings from the same environment variable as the parent, and orders from the socket on its standard input.
If it cannot start, it reports the reason to the parent, which logs it.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable

import uvloop

from maesh_core.errors import MaeshError, SettingsError
from maesh_core.plugin_system.loading import load_plugins
from maesh_core.process.logging_setup import configure_logging
from maesh_core.process.open_files import find_open_files_limit, raise_open_files_limit
from maesh_core.process.printable import show_line
from maesh_core.proxy.network.slots import fit_connection_limit
from maesh_core.proxy.worker.memory import WorkerMemory
from maesh_core.proxy.worker.orders import OrderExecutor
from maesh_core.proxy.worker.parts import Plugins
from maesh_core.proxy.worker.runtime import WorkerRuntime
from maesh_core.proxy.workers.channel import Channel
from maesh_core.proxy.workers.messages import AnyOrder, NotStarted
from maesh_core.settings import ProxySettings
from maesh_core.settings.handover import PROXY_SETTINGS_VARIABLE, parse_proxy_settings

PARENT_DESCRIPTOR = 0

logger = logging.getLogger(__name__)


def main() -> int:
    """Run the worker; return the exit status."""
    _leave_signals_to_parent()
    try:
        sock = _take_socket()
        settings = parse_proxy_settings(os.environ.pop(PROXY_SETTINGS_VARIABLE, ""))
        memory = WorkerMemory.inherit()
    except MaeshError as error:
        sys.stderr.write(f"maesh: error: {show_line(str(error))}\n")
        return 1
    configure_logging(settings.log_level, settings.log_format)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(run_worker(sock, settings, lambda: _load_plugins(settings), memory))
    except Exception:  # the parent replaces this worker
        logger.exception("the worker failed unexpectedly")
        return 1


async def run_worker(
    sock: socket.socket, settings: ProxySettings, load: Callable[[], Plugins], memory: WorkerMemory
) -> int:
    """Execute orders from a socket until the worker ends, with the plugins from `load`; return the exit status."""
    raise_open_files_limit()
    settings = fit_connection_limit(settings, find_open_files_limit())
    try:
        runtime = WorkerRuntime(settings, load(), memory)
    except MaeshError as error:
        _report_failure(sock, str(error))
        return 1
    await OrderExecutor(sock, runtime).run()
    return 0


def _load_plugins(settings: ProxySettings) -> Plugins:
    return load_plugins("proxy", settings.plugins, settings.plugin_settings, origins=settings.origins)


def _report_failure(sock: socket.socket, text: str) -> None:
    channel: Channel[AnyOrder] = Channel(
        sock,
        AnyOrder,
        on_message=lambda *_: None,
        on_closed=lambda reason: logger.debug("the channel to the parent ended: %s", reason),
    )
    channel.send(NotStarted(text=text))
    channel.close()


def _take_socket() -> socket.socket:
    try:
        sock = socket.socket(fileno=os.dup(PARENT_DESCRIPTOR))
        if sock.family != socket.AF_UNIX:
            raise SettingsError("only the proxy starts workers; use: maesh proxy")
    except OSError as error:
        raise SettingsError("only the proxy starts workers; use: maesh proxy") from error
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, PARENT_DESCRIPTOR)
    os.close(null)
    return sock


def _leave_signals_to_parent() -> None:
    """Ignore signals that a terminal or supervisor sends to all processes; the parent orders a drain instead.

    SIGUSR1 is ignored unless a plugin handles it.
    """
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)


if __name__ == "__main__":
    sys.exit(main())
