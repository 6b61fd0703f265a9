"""The authority of one controller: what the pages, the API's certificate and the services of the controller share.

Opens the store that the settings name, and builds what keeps, uses and rotates its content, once for all. A folder that
a setting names and that cannot be used stops the start.
"""

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Final

from maesh_core.plugin import ApiPage, ClusterApi, ConfigurationError, ControllerNode, ControllerService, ObjectKey
from maesh_mtls import MtlsSettings
from maesh_mtls.controller.api_certificate import FindTokenNode, MtlsCertifier
from maesh_mtls.controller.authority.ca import make_authority
from maesh_mtls.controller.authority.effective import read_effective
from maesh_mtls.controller.authority.folder_store import FolderStore
from maesh_mtls.controller.authority.keeper import AuthorityKeeper, AuthorityUnavailableError, read_now
from maesh_mtls.controller.authority.node_certificates import CertificateIssuer
from maesh_mtls.controller.authority.secret_store import SecretStore
from maesh_mtls.controller.authority.signing import prepare_signing
from maesh_mtls.controller.authority.stores import StoreConflictError, StoreError
from maesh_mtls.controller.authority.trust_config_map import TrustConfigMap
from maesh_mtls.controller.modes import MtlsRules
from maesh_mtls.controller.rotation.action_pages import RevocationPage, RotationPage, StatusPage
from maesh_mtls.controller.rotation.service import RotationService
from maesh_mtls.wire import CertificateAnswer

STORE_ORIGIN: Final = "mtls store"
"""What problems with reading the folder or the Secret are reported as."""
_IN_CLUSTER: Final = "KUBERNETES_SERVICE_HOST"
"""A variable of every container in Kubernetes."""


class AuthorityService:
    """The authority: `keeper` has what the store has, `rotation` replaces it in phases. Implements `NodeSigner`."""

    def __init__(
        self, controller: ControllerNode, settings: MtlsSettings, rules: MtlsRules, keeper: AuthorityKeeper
    ) -> None:
        self.keeper = keeper
        self.rotation = RotationService(controller, keeper.store, rules, step_s=settings.rotation_step)
        self._controller = controller
        self._settings = settings
        self._rules = rules
        self._issuer = CertificateIssuer(keeper.get, settings.domain, timedelta(seconds=settings.certificate_lifetime))

    def __repr__(self) -> str:
        return f"<AuthorityService of {self.keeper.store.place}>"

    async def sign(self, csr: str, node: str) -> CertificateAnswer:
        """Sign a certificate for a node that has proven who it is, by what the store has now.

        Raises NodeRevokedError, AuthorityUnavailableError, RequestRefusedError and AuthorityEndedError.
        """
        keeper, lifetime_s = self.keeper, self._settings.certificate_lifetime
        try:
            await prepare_signing(keeper.store, keeper.read, node, lifetime_s, time.time())
        except StoreError as error:
            raise AuthorityUnavailableError(str(error)) from error
        return self._issuer.sign(csr, node)

    def build_pages(self) -> Sequence[ApiPage]:
        """Build the pages behind `maesh mtls`."""
        store = self.keeper.store
        return [
            StatusPage(self._controller, store),
            RotationPage(store, self.rotation),
            RevocationPage(store, self.rotation),
        ]

    def list_services(self) -> Sequence[ControllerService]:
        """List what runs in the controller: in a cluster, also what publishes the certificates to trust."""
        controller, cluster = self._controller, self._controller.cluster
        if cluster is None:
            return [self.keeper, self.rotation]
        key = ObjectKey(controller.settings.namespace, self._settings.trust_config_map)
        return [self.keeper, self.rotation, TrustConfigMap(controller, cluster, key, self.keeper)]

    def build_certifier(self, find_token_node: FindTokenNode | None) -> MtlsCertifier:
        """Build what protects the API by certificates of this authority."""
        settings = self._settings
        return MtlsCertifier(
            self.keeper.get,
            settings.domain,
            settings.certificate_lifetime,
            is_revoked=self._rules.is_revoked,
            find_token_node=find_token_node,
        )


def open_authority(controller: ControllerNode, settings: MtlsSettings, rules: MtlsRules) -> AuthorityService | None:
    """Open the authority of a folder or a Secret; None if the settings name none, outside of a cluster.

    Raises ConfigurationError.
    """
    if settings.ca:
        keeper = _open_folder(Path(settings.ca), controller)
    elif controller.cluster is not None:
        keeper = _open_secret(settings.ca_secret, controller, controller.cluster)
    else:
        return None
    return AuthorityService(controller, settings, rules, keeper)


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
