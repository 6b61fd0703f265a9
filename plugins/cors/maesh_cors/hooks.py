"""The hooks of the proxy's half. pluggy marks the functions of hooks, and cannot mark those that mypyc compiles."""

from collections.abc import Sequence

from maesh_core.plugin import MiddlewareFactory, hookimpl
from maesh_cors.proxy import CorsFactory


class ProxyHalf:
    """What a proxy loads."""

    @hookimpl
    def maesh_middleware_factories(self) -> Sequence[MiddlewareFactory]:
        """Return the only factory of this plugin."""
        return [CorsFactory()]
