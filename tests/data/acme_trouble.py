"""A plugin whose middleware raises and blocks, as the path asks. Tests of what a mesh counts of such plugins use it."""

import time

import msgspec

from maesh_core.plugin import Middleware, Plugin, Stage, hookimpl

BLOCKED_S = 0.4
"""A call that blocks for a third of a second is always detected."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """It has none."""


class Trouble(Middleware):
    """Raises at `/raise`, and blocks at `/block`."""

    __slots__ = ()

    def on_request(self, exchange):
        if exchange.target == b"/raise":
            raise RuntimeError("a failure on purpose")
        if exchange.target == b"/block":
            time.sleep(BLOCKED_S)


class TroubleBuilder:
    """Gives each service with the annotation `trouble` the middleware."""

    kind = "trouble"
    stage = Stage.PROTECT
    annotations = ("trouble",)

    def build_settings(self, annotations, service):
        return Settings() if "trouble" in annotations else None


class TroubleFactory:
    """Builds the middleware."""

    kind = "trouble"
    settings_type = Settings

    def build_middleware(self, settings, service):
        return Trouble()


class ControllerHalf:
    """What the controller loads."""

    def __init__(self, settings):
        pass

    @hookimpl
    def maesh_middleware_builders(self):
        return [TroubleBuilder()]


class ProxyHalf:
    """What a proxy loads."""

    def __init__(self, settings):
        pass

    @hookimpl
    def maesh_middleware_factories(self):
        return [TroubleFactory()]


PLUGIN = Plugin(
    hook_api_version=1,
    settings=Settings,
    controller="acme_trouble:ControllerHalf",
    proxy="acme_trouble:ProxyHalf",
)
