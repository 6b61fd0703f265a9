"""What travels between the plugin's parts: nodes in the configuration, requests for certificates, and credentials.

Values only. A text of certificates has one or more of them in PEM.
"""

from typing import Annotated, Literal

import msgspec

PAGE_PATH = "/mtls/certificates"
"""The path of the controller's page that signs certificates."""
STATUS_PATH = "/mtls/status"
ROTATION_PATH = "/mtls/rotation"
REVOCATIONS_PATH = "/mtls/revocations"
"""The paths of the pages behind the commands `maesh mtls`."""


class NodeEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A node in the configuration, for all proxies. `revoked` are serial numbers in upper-case hexadecimal."""

    addresses: tuple[str, ...]
    port: int
    identity: str
    revoked: tuple[str, ...] = ()


class MeshShare(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the controller tells the parents of all proxies: the certificates that are trusted, and who signs.

    A node that has others renews its certificate within `within_s`, at a random time.
    """

    trust: str
    authority: str
    within_s: float = 1.0


class RotationOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a request to the page of rotations."""

    action: Literal["start", "abort", "proceed"]


class RevocationOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a request to the page of revocations; without a serial number, the node is meant."""

    node: str
    serial: Annotated[str, msgspec.Meta(pattern="^([0-9A-Fa-f]{1,40})?$")] = ""
    undo: bool = False


class CertificateRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a request for a certificate: a CSR (RFC 2986) in PEM, and the proof that it comes from the node."""

    csr: str
    token: str
    node: str


class CertificateAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer: the node's certificate with those between it and the authority, and those to trust."""

    chain: str
    bundle: str


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """A node's key and certificates, from the enrolment process to the parent, and from there to workers.

    The times are Unix times. `issued` is that of the node's clock. `trust` names the certificates in `bundle`
    (trust.py); `authority` is the key identifier of the issuer.
    """

    key: str
    chain: str
    bundle: str
    identity: str
    serial: str
    not_before: float
    not_after: float
    issued: float = 0.0
    trust: str = ""
    authority: str = ""

    def __repr__(self) -> str:
        """Show everything but the key, because values can get into logs."""
        return f"<Credentials {self.identity} {self.serial}>"


class EnrolmentOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What the enrolment process has to do; the files are read by it.

    `token` proves the node, `api_token` is that of the proxy for a controller's API that needs one. `trust` has the
    authority's certificates, `api_trust` those for the controller's own certificate; without it, `trust` is used.
    """

    endpoint: str
    node: str
    token: str
    trust: str = ""
    api_token: str = ""
    api_trust: str = ""
    allow_clear: bool = False


class EnrolmentFailure(msgspec.Struct, frozen=True, kw_only=True):
    """Why there are no credentials. `reason` is a value of the metric's label."""

    reason: str
    text: str
