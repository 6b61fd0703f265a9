"""Describes what the middlewares of a request's chain do to it and limit, in lines of text.

Takes the keys of a chain and the builders of middlewares; returns `KIND: LINE`. A builder that does not describe its
settings is represented by what it says about the request, or else by its settings as JSON.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from maesh_core.model.configuration import Middleware

SETTINGS_LIMIT_CHARACTERS = 500
"""Of longer settings, only the beginning is shown."""


def describe_middlewares(
    keys: Iterable[str],
    middlewares: Mapping[str, Middleware],
    builders: Mapping[str, Any],
    reasons: Mapping[str, Sequence[str]],
) -> Iterator[str]:
    """Describe middlewares, outermost first; `reasons` are what they said about the request, by key.

    A middleware that only decides about access has no line.
    """
    for key in keys:
        middleware = middlewares[key]
        builder = builders.get(middleware.kind)
        lines = describe_settings(builder, middleware.settings)
        if lines is None:
            lines = reasons.get(key)
        if lines is None:
            lines = [_show_settings(middleware.settings)]
        yield from (f"{middleware.kind}: {line}" for line in lines)


def describe_settings(builder: Any, settings: Mapping[str, Any]) -> Sequence[str] | None:
    """Ask a builder to describe settings; None if it cannot."""
    describe = getattr(builder, "describe", None)
    if describe is None:
        return None
    try:
        return [str(line) for line in describe(settings)]
    except Exception:  # a plugin's code may raise anything: its settings are shown instead
        return None


def _show_settings(settings: Mapping[str, Any]) -> str:
    text = msgspec.json.encode(settings, order="sorted").decode()
    rest = len(text) - SETTINGS_LIMIT_CHARACTERS
    return text if rest <= 0 else f"{text[:SETTINGS_LIMIT_CHARACTERS]}... and {rest} more characters"
