"""An example of an async plugin: an HTTP service is asked whether a request is let through. Declares the plugin."""

from typing import Annotated

import msgspec
from msgspec import Meta

from maesh_core.plugin import Plugin, PositiveDuration

__all__ = ["PLUGIN", "ForwardAuthSettings", "Guard"]


class ForwardAuthSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What `--set forward-auth.KEY=VALUE` takes; it holds for every service that is guarded."""

    timeout: PositiveDuration = 1.0
    """How long an answer may take, connecting included; after it the request is refused."""

    connections: Annotated[int, Meta(ge=1, le=1000)] = 32
    """How many questions a worker has under way at once for one service; more wait, within the time-out."""

    headers: tuple[str, ...] = ("Authorization", "Cookie")
    """Which of the client's headers the question carries."""


class Guard(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The guard of one service, as it travels from controller to proxy."""

    host: str
    port: int
    target: str
    timeout_s: float
    connections: int
    request_headers: tuple[str, ...]
    response_headers: tuple[str, ...]


PLUGIN = Plugin(
    hook_api_version=1,
    settings=ForwardAuthSettings,
    controller="maesh_forward_auth.controller:ControllerHalf",
    proxy="maesh_forward_auth.proxy:ProxyHalf",
    is_access_control=True,
)
