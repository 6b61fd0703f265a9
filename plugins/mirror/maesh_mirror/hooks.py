"""The hooks of the proxy's half. pluggy marks the functions of hooks, and cannot mark those that mypyc compiles."""

from collections.abc import Sequence

from maesh_core.plugin import MiddlewareFactory, hookimpl
from maesh_mirror import MirrorSettings
from maesh_mirror.proxy import MirrorFactory


class ProxyHalf:
    """What a proxy loads; the controller has put the plugin's own settings into those of each service."""

    def __init__(self, settings: MirrorSettings) -> None:
        self._settings = settings

    @hookimpl
    def maesh_middleware_factories(self) -> Sequence[MiddlewareFactory]:
        """Return the only factory of this plugin."""
        return [MirrorFactory()]
