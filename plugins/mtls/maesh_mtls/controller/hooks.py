"""What a controller loads: the rules of the transport, the pages, and what keeps and rotates the authority.

Only this half imports `cryptography`. A folder or a file that a setting names and that cannot be used stops the start.
"""

import logging
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path

from maesh_core.plugin import (
    ApiCertifier,
    ApiPage,
    ClusterApi,
    ConfigurationError,
    ControllerNode,
    ControllerService,
    ObjectKey,
    TransportRules,
    hookimpl,
)
from maesh_mtls import MtlsSettings
from maesh_mtls.controller.account_proof import AccountProof, ProofChain, ProxyTokens
from maesh_mtls.controller.action_pages import RevocationPage, RotationPage, StatusPage
from maesh_mtls.controller.api_certificate import MtlsCertifier
from maesh_mtls.controller.authority import Authority
from maesh_mtls.controller.ca import make_authority
from maesh_mtls.controller.effective import read_effective
from maesh_mtls.controller.folder_store import FolderStore
from maesh_mtls.controller.keeper import AuthorityKeeper, AuthorityUnavailableError, read_now
from maesh_mtls.controller.modes import MtlsRules
from maesh_mtls.controller.page import CertificatePage
from maesh_mtls.controller.proof import Proof, TokenFile
from maesh_mtls.controller.rotation_service import RotationService
from maesh_mtls.controller.secret_store import SecretStore
from maesh_mtls.controller.signing import prepare_signing
from maesh_mtls.controller.stores import StoreConflictError, StoreError
from maesh_mtls.controller.trust_config_map import TrustConfigMap
from maesh_mtls.core_dumps import forbid_core_dumps

STORE_ORIGIN = "mtls store"
"""What problems with reading the folder or the Secret are reported as."""
_IN_CLUSTER = "KUBERNETES_SERVICE_HOST"
"""A variable of every container in Kubernetes."""

_log = logging.getLogger(__name__)


class ControllerHalf:
    """The hooks of a controller."""

    def __init__(self, settings: MtlsSettings) -> None:
        forbid_core_dumps()
        self._settings = settings
        self._rules = MtlsRules(settings)
        self._keeper: AuthorityKeeper | None = None
        self._rotation: RotationService | None = None

    @hookimpl
    def maesh_transport_rules(self) -> Sequence[TransportRules]:
        """Return the rules."""
        return [self._rules]

    @hookimpl
    def maesh_api_pages(self, controller: ControllerNode) -> Sequence[ApiPage]:
        """Return the pages. Raises ConfigurationError."""
        settings = self._settings
        keeper, proof = self._find_keeper(controller), self._build_proof(controller)
        authority = refresh = None
        pages: list[ApiPage] = []
        if keeper is not None:
            authority = Authority(keeper.get, settings.domain, timedelta(seconds=settings.certificate_lifetime))
            refresh = partial(_refresh, keeper, settings.certificate_lifetime)
            rotation = self._find_rotation(controller, keeper)
            pages = [StatusPage(controller, keeper.store), RotationPage(keeper.store, rotation)]
            pages.append(RevocationPage(keeper.store, rotation))
        if authority is None or proof is None:
            missing = "mtls.ca" if authority is None else "mtls.tokens"
            _log.warning("this controller signs no certificates, because it has no setting %s", missing)
        page = CertificatePage(
            authority,
            proof,
            refresh=refresh,
            allows_clear=settings.allow_clear,
            clock=time.monotonic,
            is_proxy=partial(_is_proxy, controller),
        )
        return [page, *pages]

    @hookimpl
    def maesh_controller_services(self, controller: ControllerNode) -> Sequence[ControllerService]:
        """Return what keeps the authority, and in a cluster the certificates to trust. Raises ConfigurationError."""
        keeper = self._find_keeper(controller)
        if keeper is None:
            return []
        services: list[ControllerService] = [keeper, self._find_rotation(controller, keeper)]
        if controller.cluster is not None:
            key = ObjectKey(controller.settings.namespace, self._settings.trust_config_map)
            services.append(TrustConfigMap(controller, controller.cluster, key, keeper))
        return services

    def _find_rotation(self, controller: ControllerNode, keeper: AuthorityKeeper) -> RotationService:
        """Return the service that follows and rotates the authority, the same one for all hooks."""
        if self._rotation is None:
            step_s = self._settings.rotation_step
            self._rotation = RotationService(controller, keeper.store, self._rules, step_s=step_s)
        return self._rotation

    @hookimpl
    def maesh_api_certifiers(self, controller: ControllerNode) -> Sequence[ApiCertifier]:
        """Return what protects the API, if there is an authority. Raises ConfigurationError."""
        settings, keeper = self._settings, self._find_keeper(controller)
        if keeper is None:
            return []
        owners = None if controller.cluster is None else self._build_tokens(controller).find_node_or_none
        return [
            MtlsCertifier(
                keeper.get,
                settings.domain,
                settings.certificate_lifetime,
                is_revoked=self._rules.is_revoked,
                find_token_node=owners,
            )
        ]

    def _find_keeper(self, controller: ControllerNode) -> AuthorityKeeper | None:
        """Return the keeper of the authority, the same one for all hooks; None if there is no store."""
        if self._keeper is None:
            if self._settings.ca:
                self._keeper = _open_folder(Path(self._settings.ca), controller)
            elif controller.cluster is not None:
                self._keeper = _open_secret(self._settings.ca_secret, controller, controller.cluster)
        return self._keeper

    def _build_proof(self, controller: ControllerNode) -> Proof | None:
        proofs: list[Proof] = []
        if self._settings.tokens:
            file = TokenFile(Path(self._settings.tokens))
            file.load()
            proofs.append(file)
        if controller.cluster is not None:
            proofs.append(AccountProof(controller.cluster, self._build_tokens(controller)))
        return ProofChain(*proofs) if len(proofs) > 1 else next(iter(proofs), None)

    def _build_tokens(self, controller: ControllerNode) -> ProxyTokens:
        namespace, _, name = self._settings.proxy_account.rpartition("/")
        return ProxyTokens(controller, ObjectKey(namespace or controller.settings.namespace, name))


def _is_proxy(controller: ControllerNode, address: str) -> bool:
    """Whether an address is that of a proxy whose node takes part."""
    own = address.removeprefix("::ffff:")
    return any(own in entry.addresses for entry in controller.mesh_nodes.values())


async def _refresh(keeper: AuthorityKeeper, lifetime_s: float, node: str) -> None:
    """Read the authority again before a signature. Raises NodeRevokedError and AuthorityUnavailableError."""
    try:
        await prepare_signing(keeper.store, keeper.read, node, lifetime_s, time.time())
    except StoreError as error:
        raise AuthorityUnavailableError(str(error)) from error


def _open_folder(folder: Path, controller: ControllerNode) -> AuthorityKeeper:
    """Load the authority of a folder, which is made if it is missing, but not in a pod, where each would make one.

    Raises ConfigurationError.
    """
    can_make = controller.cluster is None and _IN_CLUSTER not in os.environ
    store = FolderStore(folder, report=lambda problem: controller.report(STORE_ORIGIN, problem))
    make = make_authority if can_make else None
    keeper = AuthorityKeeper(store, read=read_effective, make=make, report=controller.report)
    try:
        stored = store.load_now()
        if not stored.version and can_make:
            with suppress(StoreConflictError):  # another controller was first
                store.write_now(make_authority(read_now()), "", version="")
            stored = store.load_now()
        if not stored.version:
            raise ConfigurationError("there is no authority, because it does not exist")
        read_effective(stored, read_now())
    except (StoreError, ConfigurationError) as error:
        raise ConfigurationError(f"mtls.ca: {folder}: {error}") from error
    keeper.use(stored)
    return keeper


def _open_secret(name: str, controller: ControllerNode, api: ClusterApi) -> AuthorityKeeper:
    """Return the keeper of a Secret, which loads it as soon as it runs."""
    key = ObjectKey(controller.settings.namespace, name)
    store = SecretStore(api, key, report=lambda problem: controller.report(STORE_ORIGIN, problem))
    return AuthorityKeeper(store, read=read_effective, make=make_authority, report=controller.report)
