"""Settings that plugins decide, as far as the core looks at them: they are sent to proxies as JSON."""

from typing import Any

import msgspec

from maesh_core.errors import ConfigurationError


def check_sendable(settings: Any, owner: str) -> None:
    """Raises ConfigurationError, which begins with `owner`, for settings that JSON cannot carry."""
    try:
        msgspec.json.encode(settings)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"{owner}: its settings cannot be sent to proxies: {error}") from error
