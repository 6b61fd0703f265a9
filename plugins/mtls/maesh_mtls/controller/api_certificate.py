"""The certificate of the controller's API, which the authority signs for its own controller, and who shows which.

Each controller has a key of its own, in memory only. Its certificate is renewed after half of its life, and replaced
when the authority changes. It names the addresses of the API, and the identity of controllers
(`spiffe://DOMAIN/maesh/controller`), which no node can have.
"""

import asyncio
import ipaddress
import logging
import random
import re
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from maesh_core.plugin import ConfigurationError, TlsCredentials, TokenIdentity
from maesh_mtls.controller.authority.ca import START_MARGIN, SigningAuthority, build_usage
from maesh_mtls.identity import build_controller_identity, find_node_name

LOOK_S: Final = 2.0
"""Time between two looks at the authority, which is in memory."""
RENEWED_AT: Final = 0.5
"""The part of a certificate's life after which it is renewed."""
JITTER: Final = 0.1
_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,62})?(\.[a-z0-9_][a-z0-9_-]{0,62})*")

FindTokenNode = Callable[[TokenIdentity], Awaitable[str | None]]
"""Returns the node of the proxy that owns a token; None if its owner is no proxy."""

_log = logging.getLogger(__name__)


class Timing(NamedTuple):
    """How time passes; tests replace it."""

    now: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    draw: Callable[[float, float], float] = random.uniform


class MtlsCertifier:
    """Implements `ApiCertifier`.

    `get_signer` returns what signs now, and raises ConfigurationError if there is no authority yet. `is_revoked` gets a
    node and a serial number. `find_token_node` returns the node of a proxy's token; without it, tokens prove no node.
    """

    name = "mtls"

    def __init__(
        self,
        get_signer: Callable[[], SigningAuthority],
        domain: str,
        lifetime_s: float,
        *,
        is_revoked: Callable[[str, str], bool] = lambda node, serial: False,
        find_token_node: FindTokenNode | None = None,
        timing: Timing | None = None,
    ) -> None:
        self._get_signer = get_signer
        self._domain = domain
        self._lifetime = timedelta(seconds=lifetime_s)
        self._is_revoked = is_revoked
        self._find_token_node = find_token_node
        self._timing = timing or Timing()
        self._failure = ""

    def __repr__(self) -> str:
        return f"<MtlsCertifier of {self._domain}>"

    async def watch_credentials(self, hosts: Sequence[str]) -> AsyncIterator[TlsCredentials]:
        """Yield a certificate for these names and addresses, and each one that replaces it."""
        signed_by: tuple[bytes, str] | None = None
        renewed_at = 0.0
        while True:
            signer = self._find_signer()
            now = self._timing.now()
            if signer is not None:
                version = (signer.certificate.fingerprint(hashes.SHA256()), signer.bundle)
                if version != signed_by or now >= renewed_at:
                    credentials, ends = self._sign(signer, hosts, datetime.fromtimestamp(now, UTC))
                    part = self._timing.draw(RENEWED_AT - JITTER, RENEWED_AT + JITTER)
                    signed_by, renewed_at = version, now + (ends.timestamp() - now) * part
                    _log.info("the API has a certificate of the authority until %s", ends.isoformat())
                    yield credentials
            await self._timing.sleep(LOOK_S)

    def _find_signer(self) -> SigningAuthority | None:
        """Return what signs now; None if nothing can. A reason is logged once."""
        failure = ""
        try:
            signer = self._get_signer()
            if signer.certificate.not_valid_after_utc.timestamp() <= self._timing.now():
                failure = "the authority's own certificate has ended"
        except ConfigurationError as error:
            failure = str(error)
        if failure and failure != self._failure:
            _log.warning("the API gets no certificate now: %s", failure)
        self._failure = failure
        return None if failure else signer

    def _sign(self, signer: SigningAuthority, hosts: Sequence[str], now: datetime) -> tuple[TlsCredentials, datetime]:
        key = ec.generate_private_key(ec.SECP256R1())
        ends = min(now + self._lifetime, signer.certificate.not_valid_after_utc)
        names = [x509.UniformResourceIdentifier(build_controller_identity(self._domain)), *build_names(hosts)]
        certificate = build_api_certificate(signer, key.public_key(), names, starts=now - START_MARGIN, ends=ends)
        encoded = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        own = certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")
        credentials = TlsCredentials(
            key=encoded.decode("ascii"), chain=own + signer.intermediates, bundle=signer.bundle
        )
        return credentials, ends

    def is_controller(self, certificate: Mapping[str, Any]) -> bool:
        """Whether a certificate is that of a controller, and valid now."""
        names = certificate.get("subjectAltName", ())
        return ("URI", build_controller_identity(self._domain)) in names and self._is_valid(certificate)

    def find_node(self, certificate: Mapping[str, Any]) -> str | None:
        """Return the node of a certificate; None if it is that of none, not valid now, or revoked."""
        names = certificate.get("subjectAltName", ())
        if len(names) != 1 or names[0][0] != "URI" or not self._is_valid(certificate):
            return None
        node = find_node_name(self._domain, names[0][1])
        serial = certificate.get("serialNumber")
        return None if node is None or serial is None or self._is_revoked(node, serial) else node

    async def find_token_node(self, identity: TokenIdentity) -> str | None:
        """Return the node of the proxy that owns a token; None if its owner is no proxy."""
        return None if self._find_token_node is None else await self._find_token_node(identity)

    def is_revoked(self, node: str) -> bool:
        """Whether a node is revoked, and not only one of its certificates."""
        return self._is_revoked(node, "")

    def _is_valid(self, certificate: Mapping[str, Any]) -> bool:
        """Whether a certificate has not ended: a connection may outlive the one that it began with."""
        ends = certificate.get("notAfter")
        return ends is not None and self._timing.now() < ssl.cert_time_to_seconds(ends)


def build_names(hosts: Sequence[str]) -> list[x509.GeneralName]:
    """Build the names of a certificate; what is neither an address nor the name of a host is left out."""
    names: list[x509.GeneralName] = []
    for host in hosts:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            if _NAME.fullmatch(host):
                names.append(x509.DNSName(host))
    return names


def build_api_certificate(
    signer: SigningAuthority,
    key: ec.EllipticCurvePublicKey,
    names: Sequence[x509.GeneralName],
    *,
    starts: datetime,
    ends: datetime,
) -> x509.Certificate:
    """Build a certificate for a controller, which is a server, and a client of others and of proxies."""
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(signer.certificate.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(max(starts, signer.certificate.not_valid_before_utc))
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(build_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(issuer, critical=False)
        .sign(signer.key, hashes.SHA256())
    )
