"""Retries for Maesh: a service's annotations define how often a request is sent, and after which failures.

Both processes import this module before they load a half, so it only declares the plugin.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from maesh_core.plugin import Duration, Plugin

__all__ = ["PLUGIN", "RetrySettings"]


class RetrySettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings `--set retry.KEY=VALUE`, for all services with retries."""

    body_limit: Annotated[int, Meta(ge=0, le=1 << 20)] = 65536
    """Largest request body, in bytes, that is kept to be sent again. A request with a larger body is sent once."""

    backoff: Duration = 0.0
    """Limit of the random pause before the second attempt, in seconds. It doubles for each further attempt; 0: none."""

    backoff_limit: Duration = 1.0
    """Longest pause before an attempt, in seconds."""

    budget: Annotated[float, Meta(ge=0, le=100)] = 0.0
    """Maximum number of retries, in percent of a service's requests; 0: no limit."""


PLUGIN = Plugin(
    hook_api_version=1,
    settings=RetrySettings,
    controller="maesh_retry.controller:ControllerHalf",
    proxy="maesh_retry.hooks:ProxyHalf",
)
