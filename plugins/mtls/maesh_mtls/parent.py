"""The half in the parent process of a proxy: the service that keeps the node's certificate valid.

The parent imports neither `ssl` nor `cryptography`; keys and certificates are made in a process that ends.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from maesh_core.plugin import NodeService, ParentNode, hookimpl
from maesh_mtls import MtlsSettings
from maesh_mtls.core_dumps import forbid_core_dumps
from maesh_mtls.facts import render_facts
from maesh_mtls.identity import build_controller_identity, find_domain
from maesh_mtls.proxy.renewal import Renewal, enrol
from maesh_mtls.wire import EnrolmentOrder


class ParentHalf:
    """The hooks of a proxy's parent."""

    def __init__(self, settings: MtlsSettings) -> None:
        forbid_core_dumps()
        self._settings = settings

    @hookimpl
    def maesh_node_services(self, parent: ParentNode) -> Sequence[NodeService]:
        """Return the service that renews the certificate, if the node has a token."""
        settings = self._settings
        if not settings.token:
            parent.report((), {"certificate": "none, because the proxy has no setting mtls.token"})
            parent.tell_controller(render_facts(None, "none"))
            return []
        order = EnrolmentOrder(
            endpoint=parent.settings.endpoint,
            node=parent.name,
            token=settings.token,
            trust=settings.trust,
            api_token=parent.settings.controller_token,
            api_trust=parent.settings.root_ca_controller,
            allow_clear=settings.allow_clear,
        )
        renewal = Renewal(parent, lambda: enrol(order))
        parent.protect(lambda certificate: is_controller(certificate, find_domain(renewal.identity)))
        return [renewal]


def is_controller(certificate: Mapping[str, Any], domain: str | None, *, now: Callable[[], float] = time.time) -> bool:
    """Whether a verified certificate is that of a controller of this domain, and has not ended since.

    The authority signs this URI for no node. Without a domain, no certificate is.
    """
    from ssl import cert_time_to_seconds  # already loaded, as the certificate came over TLS

    if domain is None or ("URI", build_controller_identity(domain)) not in certificate.get("subjectAltName", ()):
        return False
    return now() < cert_time_to_seconds(certificate["notAfter"])
