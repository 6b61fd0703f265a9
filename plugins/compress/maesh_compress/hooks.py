"""The hooks of the proxy's half. pluggy marks the functions of hooks, and cannot mark those that mypyc compiles."""

from collections.abc import Sequence

from maesh_compress import CompressSettings
from maesh_compress.codings import list_codings
from maesh_compress.proxy import CompressFactory
from maesh_core.plugin import MiddlewareFactory, hookimpl


class ProxyHalf:
    """What a proxy loads."""

    def __init__(self, settings: CompressSettings) -> None:
        self._settings = settings

    @hookimpl
    def maesh_middleware_factories(self) -> Sequence[MiddlewareFactory]:
        """Return the only factory of this plugin."""
        return [CompressFactory(list_codings(self._settings), self._settings.responses)]
