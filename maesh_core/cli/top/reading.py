"""Reads `/api/traffic` from a controller: once, or again and again in a thread of its own.

Raises MaeshError if no controller answers. Each controller reports the proxies of all, so the first that answers
counts. What they send is untrusted and is decoded strictly.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress

import msgspec

from maesh_core.controller.api_clients.controllers import ApiAccess, Controllers, advise, open_controllers
from maesh_core.errors import MaeshError, StartupError
from maesh_core.model.traffic import TrafficReport
from maesh_core.settings.traffic import TopSettings

PATH = "/api/traffic"
TIMEOUT_S = 10.0
"""A controller that waits for other controllers and for slow proxies answers after up to 7 s."""
MINIMUM_INTERVAL_S = 0.1
"""The controller keeps a report for a second, so reading more often shows nothing new."""
STOP_S = 1.0
"""Time for a running request to end when the user quits; the process ends anyway."""

_DECODER = msgspec.json.Decoder(TrafficReport)

OnReport = Callable[[str, TrafficReport], None]
OnFailure = Callable[[str], None]


async def read_once(settings: TopSettings) -> tuple[str, TrafficReport]:
    """Read one report; returns it with the name of the controller that answered. Raises StartupError."""
    async with _open(settings) as controllers:
        try:
            return await read_first(controllers)
        except MaeshError as error:
            raise StartupError(advise(error, settings.endpoint)) from error


def _open(settings: TopSettings) -> AbstractAsyncContextManager[Controllers]:
    return open_controllers(
        settings.endpoint,
        kubeconfig=settings.kubeconfig,
        master_url=settings.master_url,
        namespace=settings.namespace,
        timeout_s=TIMEOUT_S,
        access=ApiAccess.from_settings(settings),
    )


async def read_first(controllers: Controllers) -> tuple[str, TrafficReport]:
    """Read the report of the first controller that answers, after its name.

    Raises MaeshError with the first reason if none does.
    """
    failure: MaeshError | None = None
    for name, fetch in controllers:
        try:
            return name, parse_report(await fetch(PATH))
        except MaeshError as error:
            failure = failure or error
    raise failure or MaeshError("there is no controller")


def parse_report(body: bytes) -> TrafficReport:
    """Decode a report; raises MaeshError."""
    try:
        return _DECODER.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise MaeshError(f"what answered is no controller: {error}") from error


class Reader:
    """A thread that reads a report at every interval and calls back, in this thread."""

    def __init__(self, settings: TopSettings, *, on_report: OnReport, on_failure: OnFailure) -> None:
        self._settings = settings
        self._interval_s = max(settings.interval, MINIMUM_INTERVAL_S)
        self._on_report, self._on_failure = on_report, on_failure
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="maesh-top-reader", daemon=True)

    def __repr__(self) -> str:
        return f"<Reader every {self._interval_s:g} s>"

    def start(self) -> None:
        """Start reading, after the first interval."""
        self._thread.start()
        self._is_started.wait()

    def close(self) -> None:
        """Stop reading; waits a moment for a running request."""
        if self._loop is not None and self._stop is not None:
            with suppress(RuntimeError):  # the loop has ended already
                self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(STOP_S)

    def _run(self) -> None:
        asyncio.run(self._read_until_stopped())

    async def _read_until_stopped(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._is_started.set()
        reading = asyncio.create_task(self._read_forever())
        await self._stop.wait()
        reading.cancel()
        await asyncio.wait((reading,))

    async def _read_forever(self) -> None:
        """Read for ever. The controllers are looked up again after a failure, as their pods may be replaced."""
        await asyncio.sleep(self._interval_s)
        while True:
            try:
                async with _open(self._settings) as controllers:
                    while True:
                        self._on_report(*await read_first(controllers))
                        await asyncio.sleep(self._interval_s)
            except MaeshError as error:
                self._on_failure(str(error))
            except Exception as error:  # whatever happens, the view keeps its data and says why they are old
                self._on_failure(f"{type(error).__name__}: {error}")
            await asyncio.sleep(self._interval_s)
