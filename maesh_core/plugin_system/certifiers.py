"""The interface with which a plugin protects the controller's API: it offers a certificate, and recognizes callers.

Interfaces only. `controller/api/security/protection.py` uses them. Certificates of others are given as
`SSLObject.getpeercert` describes them, after OpenSSL has verified their chain; names are not checked yet.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Protocol

from maesh_core.model.token_identity import TokenIdentity
from maesh_core.process.tls_credentials import TlsCredentials


class ApiCertifier(Protocol):
    """Protects the API of a controller. At most one may be enabled."""

    name: str

    def watch_credentials(self, hosts: Sequence[str]) -> AsyncIterator[TlsCredentials]:
        """Yield the certificate of this controller's API, and each one that replaces it, forever.

        `hosts` are the names and addresses that it must be valid for. Until the first one, the controller is not ready,
        and the API answers nothing but its open paths. If it raises, the failure is logged, and it is called again.
        """

    def is_controller(self, certificate: Mapping[str, Any]) -> bool:
        """Whether a certificate is that of a controller of this mesh, valid now and not revoked."""

    def find_node(self, certificate: Mapping[str, Any]) -> str | None:
        """Return the name of the node whose certificate this is, valid now and not revoked; None if it is none."""

    async def find_token_node(self, identity: TokenIdentity) -> str | None:
        """Return the node of the proxy that owns a token of the cluster; None if its owner is no proxy."""

    def is_revoked(self, node: str) -> bool:
        """Whether a node may not use the API, also with a token that proves it."""
