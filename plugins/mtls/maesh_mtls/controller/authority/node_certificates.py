"""Checks a certificate signing request, and signs a certificate for a node.

Only the public key of a request is used: whatever name, extension or attribute it asks for is ignored. The caller has
proven which node sent it. Raises RequestRefusedError for a request, and AuthorityEndedError if no request can be met.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from maesh_mtls.controller.authority.ca import START_MARGIN, SigningAuthority, build_usage
from maesh_mtls.identity import build_identity
from maesh_mtls.wire import CertificateAnswer


class RequestRefusedError(Exception):
    """The request is invalid; the text says why, and contains nothing of it."""


class AuthorityEndedError(Exception):
    """The authority's own certificate is no longer valid."""


def _read_now() -> datetime:
    return datetime.now(UTC)


class CertificateIssuer:
    """Signs certificates of one trust domain, each valid for `lifetime`. `get_signer` returns what signs them now."""

    __slots__ = ("_domain", "_get_signer", "_lifetime", "_now")

    def __init__(
        self,
        get_signer: Callable[[], SigningAuthority],
        domain: str,
        lifetime: timedelta,
        *,
        now: Callable[[], datetime] = _read_now,
    ) -> None:
        self._get_signer = get_signer
        self._domain = domain
        self._lifetime = lifetime
        self._now = now

    def __repr__(self) -> str:
        return f"<CertificateIssuer of {self._domain}>"

    def sign(self, csr: str, node: str) -> CertificateAnswer:
        """Sign a certificate with the identity of a node, for the key of a request in PEM."""
        key = read_request_key(csr)
        signer, now = self._get_signer(), self._now()
        ends = min(now + self._lifetime, signer.certificate.not_valid_after_utc)
        if ends <= now:
            raise AuthorityEndedError("the authority's own certificate has ended")
        certificate = build_node_certificate(
            signer, key, build_identity(self._domain, node), starts=now - START_MARGIN, ends=ends
        )
        chain = certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")
        return CertificateAnswer(chain=chain + signer.intermediates, bundle=signer.bundle)


def build_node_certificate(
    signer: SigningAuthority, key: ec.EllipticCurvePublicKey, identity: str, *, starts: datetime, ends: datetime
) -> x509.Certificate:
    """Build a certificate with an identity, for clients and servers."""
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity)])
    issuer_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(signer.certificate.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(starts)
        .not_valid_after(ends)
        .add_extension(names, critical=True)  # because there is no subject (RFC 5280 section 4.2.1.6)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(build_usage(digital_signature=True), critical=True)
        .add_extension(usage, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(issuer_id, critical=False)
        .sign(signer.key, hashes.SHA256())
    )


def read_request_key(csr: str) -> ec.EllipticCurvePublicKey:
    """Read the public key of a request, after checking that the sender has the private key.

    The type of the key is checked before the signature, because checking one of a very long RSA key is slow.
    Raises RequestRefusedError.
    """
    try:
        request = x509.load_pem_x509_csr(csr.encode("ascii"))
        key = request.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion):
        raise RequestRefusedError("it is not a certificate signing request in PEM") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise RequestRefusedError("its key is not an ECDSA key of the curve P-256")
    try:
        is_signed = request.is_signature_valid
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        is_signed = False
    if not is_signed:
        raise RequestRefusedError("its signature is invalid")
    return key
