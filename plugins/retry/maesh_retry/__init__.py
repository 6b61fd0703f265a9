"""Retries for Maesh: a service's annotations say how often a request is sent, and after which failures.

This module is all that a process imports before it knows which half it needs; it only declares the plugin.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from maesh_core.plugin import Duration, Plugin

__all__ = ["PLUGIN", "RetrySettings"]


class RetrySettings(msgspec.Struct, frozen=True, kw_only=True):
    """What `--set retry.KEY=VALUE` takes; it holds for every service that is retried."""

    body_limit: Annotated[int, Meta(ge=0, le=1 << 20)] = 65536
    """Bytes of a request's body that are kept, so that it can be sent again; a larger one is sent once."""

    backoff: Duration = 0.0
    """The pause before the second attempt is up to this long, and doubles with each further one; 0: none."""

    backoff_limit: Duration = 1.0
    """The longest pause before an attempt."""

    budget: Annotated[float, Meta(ge=0, le=1000)] = 0.0
    """How many attempts more than requests there may be, in percent of a service's requests; 0: any number."""


PLUGIN = Plugin(
    hook_api_version=1,
    settings=RetrySettings,
    controller="maesh_retry.controller:ControllerHalf",
    proxy="maesh_retry.hooks:ProxyHalf",
)
