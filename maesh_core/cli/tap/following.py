"""Finds the controllers for a tap, and the service that it is for, and follows until it is stopped.

Takes settings and the name of a service; raises MaeshError if there is no such service, or if a controller is lost and
no other one answers. The controllers are found again whenever one is lost, as their pods may be replaced.
"""

import asyncio
import sys
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec

from maesh_core.cli.tap import tap_stream
from maesh_core.cli.tap.tap_stream import TapStream
from maesh_core.cli.top.services import select_services
from maesh_core.controller.api_clients.controllers import ApiAccess, ControllerApi, advise, open_apis
from maesh_core.controller.tap.selection import parse_selection
from maesh_core.errors import MaeshError, SettingsError, StartupError
from maesh_core.model.messages import ServiceReport
from maesh_core.model.traffic import ServiceTraffic
from maesh_core.settings.traffic import TapSettings

_decode_services = msgspec.json.Decoder(list[ServiceReport]).decode


class Printer(tap_stream.Printer, Protocol):
    """Shows what a tap has to show, and notes."""

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
    try:
        async with _open(settings) as apis:
            if service is not None:
                query["service"] = await _find_service(apis, service)
            if sys.stderr.isatty():
                printer.note(f"watching {query.get('service', 'all services')}; Ctrl-C ends it")
            stream = TapStream(query, printer, limit=settings.limit)
            is_lost = await stream.follow_one(apis)
        while is_lost:
            async with _open(settings) as apis:
                is_lost = await stream.follow_one(apis)
    except StartupError:
        raise
    except MaeshError as error:
        raise StartupError(advise(error, settings.endpoint)) from error


def _open(settings: TapSettings) -> AbstractAsyncContextManager[Sequence[ControllerApi]]:
    return open_apis(
        settings.endpoint,
        kubeconfig=settings.kubeconfig,
        master_url=settings.master_url,
        namespace=settings.namespace,
        access=ApiAccess.from_settings(settings),
    )


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
    found = select_services(ports, text)
    return found[0].key if ":" in text else f"{found[0].namespace}/{found[0].name}"
