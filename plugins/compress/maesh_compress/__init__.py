"""Compression for Maesh: a service's annotations define which responses are compressed, and how.

Both processes import this module before they load a half, so it only declares the plugin.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from maesh_core.plugin import Plugin

__all__ = ["PLUGIN", "CompressSettings"]


class CompressSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings `--set compress.KEY=VALUE` of a proxy, for all services with compression."""

    gzip_level: Annotated[int, Meta(ge=1, le=9)] = 5
    """From 1, the fastest, to 9, the smallest result. Level 9 takes four times as long as 5 for 1 % less."""

    br_level: Annotated[int, Meta(ge=0, le=11)] = 4
    """From 0, the fastest, to 11, the smallest result. Levels above 6 are slow."""

    zstd_level: Annotated[int, Meta(ge=1, le=19)] = 3
    """From 1, the fastest, to 19, the smallest result."""

    responses: Annotated[int, Meta(ge=1, le=10_000)] = 128
    """Responses that a worker compresses at the same time; others pass unchanged. Each takes up to 1.5 MB."""


PLUGIN = Plugin(
    hook_api_version=1,
    settings=CompressSettings,
    controller="maesh_compress.controller:ControllerHalf",
    proxy="maesh_compress.hooks:ProxyHalf",
)
