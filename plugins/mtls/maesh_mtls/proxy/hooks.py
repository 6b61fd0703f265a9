"""What a worker of a proxy loads: the transport."""

from collections.abc import Sequence

from maesh_core.plugin import Node, Transport, hookimpl
from maesh_mtls import MtlsSettings
from maesh_mtls.core_dumps import forbid_core_dumps
from maesh_mtls.proxy.transport import MtlsTransport


class ProxyHalf:
    """The hooks of a worker."""

    def __init__(self, settings: MtlsSettings) -> None:
        forbid_core_dumps()
        self._settings = settings

    @hookimpl
    def maesh_transports(self, node: Node) -> Sequence[Transport]:
        """Return the only transport of this plugin."""
        return [MtlsTransport(node, self._settings)]
