"""Checks of the settings that plugins return: they are sent to proxies as JSON."""

from collections.abc import Mapping
from typing import Any

import msgspec

from maesh_core.errors import ConfigurationError


def render_settings(settings: msgspec.Struct | Mapping[str, object], owner: str) -> Mapping[str, Any]:
    """Convert a struct to the mapping that is sent, and return a mapping unchanged.

    Raises ConfigurationError, whose text starts with `owner`, for anything but a JSON object.
    """
    try:
        rendered = msgspec.to_builtins(settings) if isinstance(settings, msgspec.Struct) else settings
        encoded = msgspec.json.encode(rendered)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"{owner}: its settings cannot be sent to proxies", detail=str(error)) from error
    if not encoded.startswith(b"{"):
        raise ConfigurationError(f"{owner}: its settings are not a mapping, so they cannot be sent to proxies")
    mapping: Mapping[str, Any] = rendered
    return mapping
