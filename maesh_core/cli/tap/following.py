"""Follows the taps of all controllers, and hands their lines to a printer.

Takes settings and the name of a service; raises MaeshError if there is no such service, or if the last controller is
lost. What controllers send is decoded strictly. Every replica shows the proxies that pull from it, so all are followed.
"""

import asyncio
import sys
from collections.abc import Sequence
from typing import Protocol

import msgspec

from maesh_core.cli.top.services import select_services
from maesh_core.controller.api.controllers import ControllerApi, open_apis
from maesh_core.controller.tap.selection import parse_selection
from maesh_core.errors import MaeshError, SettingsError, StartupError
from maesh_core.model.messages import ServiceReport
from maesh_core.model.tap import TapDrops, TapError, TappedRecord
from maesh_core.model.traffic import ServiceTraffic
from maesh_core.settings import TapSettings

PATH = "/api/tap"
SILENCE_LIMIT_S = 15.0
"""A controller that sends nothing for so long is lost: it sends an empty line every 3 s."""

Item = TappedRecord | TapDrops | TapError

_decode_record = msgspec.json.Decoder(TappedRecord).decode
_decode_drops = msgspec.json.Decoder(TapDrops).decode
_decode_error = msgspec.json.Decoder(TapError).decode
_decode_services = msgspec.json.Decoder(list[ServiceReport]).decode


class Printer(Protocol):
    """Shows what a tap has to show."""

    def show(self, item: Item) -> None:
        """Show a record, or what is missing."""

    def note(self, text: str) -> None:
        """Show a note about the tap itself."""


async def follow_until_stopped(
    settings: TapSettings, service: str | None, printer: Printer, stop: asyncio.Event
) -> None:
    """Follow until `stop` is set, or the limit is reached. Raises MaeshError."""
    following = asyncio.ensure_future(_follow(settings, service, printer))
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((following, stopping), return_when=asyncio.FIRST_COMPLETED)
    finally:
        is_stopped = not following.done()
        for task in (following, stopping):
            task.cancel()
        await asyncio.wait((following, stopping))
    if not is_stopped:
        following.result()


async def _follow(settings: TapSettings, service: str | None, printer: Printer) -> None:
    query = build_query(settings)
    async with open_apis(
        settings.endpoint,
        kubeconfig=settings.kubeconfig,
        master_url=settings.master_url,
        namespace=settings.namespace,
    ) as apis:
        try:
            if service is not None:
                query["service"] = await _find_service(apis, service)
            if sys.stderr.isatty():
                printer.note(f"watching {query.get('service', 'all services')}; Ctrl-C ends it")
            await _Merging(apis, query, printer, settings.limit).run()
        except StartupError:
            raise
        except MaeshError as error:
            advice = "" if settings.endpoint else "; --endpoint names another controller, --kubeconfig a cluster"
            raise StartupError(f"{error}{advice}") from error


def build_query(settings: TapSettings) -> dict[str, str]:
    """Build the query of a tap from the flags; raises SettingsError if one of them is invalid."""
    given = {
        "method": settings.method.upper(),
        "path": settings.path,
        "status": settings.status,
        "source": settings.source,
        "limit": str(settings.limit or ""),
    }
    query = {name: value for name, value in given.items() if value}
    try:
        parse_selection(query)
    except ValueError as error:
        raise SettingsError(f"--{error}") from error
    return query


async def _find_service(apis: Sequence[ControllerApi], text: str) -> str:
    """Find the service that a user named, as the parameter of a tap. Raises MaeshError."""
    failure: MaeshError | None = None
    for api in apis:
        try:
            reports = _decode_services(await api.fetch("/api/services"))
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            failure = failure or MaeshError(f"what answered is no controller: {error}")
        except MaeshError as error:
            failure = failure or error
        else:
            return _choose_service(reports, text)
    raise failure or MaeshError("there is no controller")


def _choose_service(reports: Sequence[ServiceReport], text: str) -> str:
    ports = [
        ServiceTraffic(
            key=f"{report.namespace}/{report.name}:{port.port}",
            namespace=report.namespace,
            name=report.name,
            port=str(port.port),
        )
        for report in reports
        for port in report.ports
    ]
    found = select_services(ports, text, noun="service")
    return found[0].key if ":" in text else f"{found[0].namespace}/{found[0].name}"


class _Merging:
    """Follows several controllers at the same time."""

    def __init__(self, apis: Sequence[ControllerApi], query: dict[str, str], printer: Printer, limit: int) -> None:
        self._apis = apis
        self._query = query
        self._printer = printer
        self._left = limit or None
        self._is_full = asyncio.Event()

    def __repr__(self) -> str:
        return f"<_Merging {len(self._apis)} controllers>"

    async def run(self) -> None:
        """Follow until the limit is reached; raises the error of the last controller that is lost."""
        waiting = asyncio.ensure_future(self._is_full.wait())
        running: set[asyncio.Task[None]] = {asyncio.create_task(self._follow(api)) for api in self._apis}
        try:
            while True:
                await asyncio.wait({waiting, *running}, return_when=asyncio.FIRST_COMPLETED)
                if self._is_full.is_set():
                    return
                for task in [each for each in running if each.done()]:
                    running.remove(task)
                    self._note_end(task, is_last=not running)
        finally:
            tasks = (waiting, *running)
            for each in tasks:
                each.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _note_end(self, ended: "asyncio.Task[None]", *, is_last: bool) -> None:
        """Note that a controller is lost; raise the error if it is the last one, or unexpected."""
        error = ended.exception()
        if is_last or not isinstance(error, MaeshError):
            raise error or AssertionError("a tap ended without a reason")
        self._printer.note(str(error))

    async def _follow(self, api: ControllerApi) -> None:
        async for lines in api.follow(PATH, self._query, silence_limit_s=SILENCE_LIMIT_S):
            for line in lines:
                if line.strip() and not self._is_full.is_set():
                    self._take(line)
        if not self._is_full.is_set():
            raise MaeshError(f"lost the controller at {api.name}: it has ended the tap")

    def _take(self, line: bytes) -> None:
        item = parse_line(line)
        self._printer.show(item)
        if isinstance(item, TappedRecord) and self._left is not None:
            self._left -= 1
            if self._left == 0:
                self._is_full.set()


def parse_line(line: bytes) -> Item:
    """Decode a line of a tap; raises MaeshError."""
    for decode in (_decode_record, _decode_drops):
        try:
            return decode(line)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            continue
    try:
        return _decode_error(line)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise MaeshError(f"what answered is no controller: {error}") from error
