"""The controller's half: a file in, the objects that it holds out, told again whenever it changes."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from maesh_blank import BlankSettings
from maesh_core.plugin import Event, Problem, Replaced, ResourceKind, Source, hookimpl


class BlankSource:
    """Tells of the objects in a file."""

    name = "blank"

    def __init__(self, settings: BlankSettings) -> None:
        self._settings = settings

    async def watch_events(self, kinds: Sequence[ResourceKind]) -> AsyncIterator[Sequence[Event]]:
        """Yield all objects, and again after each change; a failed read yields a problem and changes nothing.

        The start waits for a first list of each kind. If this raises, the controller starts it again after a pause, and
        keeps the objects that it has reported.
        """
        told: object = None
        while True:
            try:
                objects = await asyncio.to_thread(self._read)
                events = _sort(objects, kinds)
            except (OSError, ValueError) as error:
                objects = str(error)
                events = [Replaced(kind.type, ()) for kind in kinds] if told is None else []
                events.append(Problem(self._settings.path, objects))
            else:
                events.append(Problem(self._settings.path, None))
            if objects != told:
                yield events
                told = objects
            await asyncio.sleep(self._settings.interval)

    def _read(self) -> Any:
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
        events.append(Replaced(kind.type, [kind.decode(each) for each in found]))
    return events


class ControllerHalf:
    """What the controller loads."""

    def __init__(self, settings: BlankSettings) -> None:
        self._settings = settings

    @hookimpl
    def maesh_sources(self) -> Sequence[Source]:
        """Return the sources of this plugin."""
        return [BlankSource(self._settings)]
