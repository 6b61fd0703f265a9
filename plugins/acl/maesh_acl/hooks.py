"""The hooks of the proxy's half. pluggy marks the functions of hooks, and cannot mark those that mypyc compiles."""

from collections.abc import Sequence

from maesh_acl import AccessSettings
from maesh_acl.proxy import AclFactory
from maesh_core.plugin import MiddlewareFactory, Node, hookimpl


class ProxyHalf:
    """What a proxy loads. The settings are the controller's."""

    def __init__(self, settings: AccessSettings) -> None:
        """Take the settings, which every half is given."""

    @hookimpl
    def maesh_middleware_factories(self, node: Node) -> Sequence[MiddlewareFactory]:
        """Return the middleware."""
        return [AclFactory(node)]
