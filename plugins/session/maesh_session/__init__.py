"""Session persistence for Maesh: the requests of a session go to the same server, by a signed cookie or header.

Both processes import this module before they load a half, so it only declares the plugin.
"""

import msgspec

from maesh_core.plugin import Plugin

__all__ = ["PLUGIN", "SessionSettings"]


class SessionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings `--set session.KEY=VALUE`, for all services with sessions."""

    secret: str = ""
    """The secret from which the keys of values are derived. Without it, the keys are derived from public names."""


PLUGIN = Plugin(
    hook_api_version=1,
    settings=SessionSettings,
    controller="maesh_session.controller:ControllerHalf",
    proxy="maesh_session.hooks:ProxyHalf",
)
