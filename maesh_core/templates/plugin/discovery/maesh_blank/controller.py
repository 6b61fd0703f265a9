"""The controller's half: a file in, the objects that it holds out, told again whenever it changes."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from maesh_blank import BlankSettings
from maesh_core.plugin import Event, Problem, Replaced, ResourceKind, Source, hookimpl


class BlankSource:
    """Tells of the objects in a file."""

    name = "blank"

    def __init__(self, settings: BlankSettings) -> None:
        self._settings = settings

    async def watch_events(self, kinds: Sequence[ResourceKind]) -> AsyncIterator[Sequence[Event]]:
        """Tell of everything, and again after each change; what cannot be read is a problem, and changes nothing.

        Raising would do no harm: the controller starts a source again after a pause.
        """
        told: list[Any] | None = None
        yield [Replaced(kind.type, ()) for kind in kinds]  # the start waits for this
        while True:
            try:
                objects = await asyncio.to_thread(self._read)
                if objects != told:
                    yield [*_sort(objects, kinds), Problem(self._settings.path, None)]
                    told = objects
            except (OSError, ValueError) as error:
                yield [Problem(self._settings.path, str(error))]
            await asyncio.sleep(self._settings.interval)

    def _read(self) -> list[Any]:
        if not self._settings.path:
            return []
        found = json.loads(Path(self._settings.path).read_bytes())
        if not isinstance(found, list):
            raise ValueError("not a list of objects")
        return found


def _sort(objects: Sequence[Any], kinds: Sequence[ResourceKind]) -> list[Event]:
    """Sort objects by kind, and read each as its kind's type; other kinds are left out. Raises ValueError."""
    events: list[Event] = []
    for kind in kinds:
        found = [each for each in objects if isinstance(each, dict) and each.get("kind") == kind.name]
        events.append(Replaced(kind.type, msgspec.convert(found, list[kind.type])))  # type: ignore[name-defined]
    return events


class ControllerHalf:
    """What the controller loads."""

    def __init__(self, settings: BlankSettings) -> None:
        self._settings = settings

    @hookimpl
    def maesh_sources(self) -> Sequence[Source]:
        """Give the sources of this plugin."""
        return [BlankSource(self._settings)]
