"""Passes the settings that services have for observers of traffic to these observers.

Takes the middlewares of a configuration, after it was applied. Settings for observers are among them, but no router
refers to them: they are in no chain, and their kind has no factory. Nothing here runs for a request.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from maesh_core.model.configuration import Middleware
from maesh_core.model.keys import find_scope

logger = logging.getLogger(__name__)


class ObserverSettings:
    """The observers that implement `ConfiguredObserver`, and the settings that each of them has."""

    __slots__ = ("_applied", "_observers", "_seen")

    def __init__(self, observers: Iterable[Any]) -> None:
        self._observers = [each for each in observers if getattr(each, "apply_settings", None) is not None]
        self._applied: list[Mapping[str, Any]] = [{} for _ in self._observers]
        self._seen: Sequence[Mapping[str, Middleware]] = ()

    def __repr__(self) -> str:
        """Show the number of services with settings."""
        return f"<ObserverSettings {[len(each) for each in self._applied]}>"

    def apply(self, sections: Sequence[Mapping[str, Middleware]]) -> None:
        """Pass on what has changed; `sections` are the middlewares of each protocol."""
        seen = self._seen
        if len(seen) == len(sections) and all(one is other for one, other in zip(seen, sections, strict=True)):
            return
        self._seen = sections
        for index, observer in enumerate(self._observers):
            raw = _select(sections, observer.kind)
            if raw != self._applied[index]:
                self._applied[index] = raw
                _apply_to(observer, raw)


def _select(sections: Iterable[Mapping[str, Middleware]], kind: str) -> dict[str, Mapping[str, Any]]:
    """Select the settings of one kind, by service or, where a port has its own ones, by service port."""
    return {
        find_scope(key): middleware.settings
        for section in sections
        for key, middleware in section.items()
        if middleware.kind == kind
    }


def _apply_to(observer: Any, raw: Mapping[str, Mapping[str, Any]]) -> None:
    settings = {}
    for service, each in raw.items():
        try:
            settings[service] = msgspec.convert(each, observer.settings_type)
        except msgspec.ValidationError as error:
            logger.error("observer %s: the settings of %s are invalid: %s", observer.name, service, error)
    try:
        observer.apply_settings(settings)
    except Exception:  # an error of a plugin must not affect traffic
        logger.exception("observer %s: its settings could not be applied", observer.name)
