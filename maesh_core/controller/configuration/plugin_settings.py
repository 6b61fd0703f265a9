"""Settings that plugins decide, as far as the core looks at them: they are sent to proxies as JSON."""

from typing import Any

import msgspec

from maesh_core.errors import ConfigurationError


def check_sendable(settings: Any, owner: str) -> None:
    """Raise ConfigurationError, which begins with `owner`, for settings that are no JSON object, nor None."""
    try:
        encoded = msgspec.json.encode(settings)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"{owner}: its settings cannot be sent to proxies", detail=str(error)) from error
    if settings is not None and not encoded.startswith(b"{"):
        raise ConfigurationError(f"{owner}: its settings are no mapping, so they cannot be sent to proxies")
