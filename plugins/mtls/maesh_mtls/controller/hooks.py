"""What a controller loads: the rules of the transport, the authority with its pages and services, and proofs of nodes.

Only this half imports `cryptography`. A folder or a file that a setting names and that cannot be used stops the start.
"""

import logging
import time
from collections.abc import Sequence
from functools import partial

from maesh_core.plugin import ApiCertifier, ApiPage, ControllerNode, ControllerService, TransportRules, hookimpl
from maesh_mtls import MtlsSettings
from maesh_mtls.controller.authority_service import AuthorityService, open_authority
from maesh_mtls.controller.modes import MtlsRules
from maesh_mtls.controller.proofs.account_proof import build_proof, build_proxy_tokens
from maesh_mtls.controller.proofs.certificate_page import CertificatePage
from maesh_mtls.core_dumps import forbid_core_dumps

_log = logging.getLogger(__name__)


class ControllerHalf:
    """The hooks of a controller."""

    def __init__(self, settings: MtlsSettings) -> None:
        forbid_core_dumps()
        self._settings = settings
        self._rules = MtlsRules(settings)
        self._authority: AuthorityService | None = None

    @hookimpl
    def maesh_transport_rules(self) -> Sequence[TransportRules]:
        """Return the rules."""
        return [self._rules]

    @hookimpl
    def maesh_api_pages(self, controller: ControllerNode) -> Sequence[ApiPage]:
        """Return the pages. Raises ConfigurationError."""
        authority, proof = self._find_authority(controller), build_proof(controller, self._settings)
        if authority is None or proof is None:
            missing = "mtls.ca" if authority is None else "mtls.tokens"
            _log.warning("this controller signs no certificates, because it has no setting %s", missing)
        page = CertificatePage(
            authority,
            proof,
            allows_clear=self._settings.allow_clear,
            clock=time.monotonic,
            is_proxy=partial(_is_proxy, controller),
        )
        return [page, *(authority.build_pages() if authority is not None else ())]

    @hookimpl
    def maesh_controller_services(self, controller: ControllerNode) -> Sequence[ControllerService]:
        """Return what keeps and rotates the authority. Raises ConfigurationError."""
        authority = self._find_authority(controller)
        return [] if authority is None else authority.list_services()

    @hookimpl
    def maesh_api_certifiers(self, controller: ControllerNode) -> Sequence[ApiCertifier]:
        """Return what protects the API, if there is an authority. Raises ConfigurationError."""
        authority = self._find_authority(controller)
        if authority is None:
            return []
        tokens = None if controller.cluster is None else build_proxy_tokens(controller, self._settings)
        return [authority.build_certifier(None if tokens is None else tokens.find_node_or_none)]

    def _find_authority(self, controller: ControllerNode) -> AuthorityService | None:
        """Return the authority, the same one for all hooks; None if there is no store."""
        if self._authority is None:
            self._authority = open_authority(controller, self._settings, self._rules)
        return self._authority


def _is_proxy(controller: ControllerNode, address: str) -> bool:
    """Whether an address is that of a proxy whose node takes part."""
    own = address.removeprefix("::ffff:")
    return any(own in entry.addresses for entry in controller.mesh_nodes.values())
