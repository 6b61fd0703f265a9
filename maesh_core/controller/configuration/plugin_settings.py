"""Checks of the settings that plugins return: they are sent to proxies as JSON."""

from typing import Any

import msgspec

from maesh_core.errors import ConfigurationError


def check_sendable(settings: Any, owner: str) -> None:
    """Raise ConfigurationError, whose text starts with `owner`, unless the settings are a JSON object or None."""
    try:
        encoded = msgspec.json.encode(settings)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"{owner}: its settings cannot be sent to proxies", detail=str(error)) from error
    if settings is not None and not encoded.startswith(b"{"):
        raise ConfigurationError(f"{owner}: its settings are not a mapping, so they cannot be sent to proxies")
