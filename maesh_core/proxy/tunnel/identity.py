"""Checks TLS connections between nodes: the version, the protocol, and whose certificate it is.

The chain was checked by OpenSSL during the handshake. A resumed session has no new chain, so the end of the certificate
is checked here for each connection. Everything that is missing or unclear is refused.
"""

import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

PROTOCOL: Final = "h2"
_VERSION: Final = "TLSv1.3"
CACHED_TIMES: Final = 4096
"""Times of certificates that are cached, two for each node: reading one takes 30 us, and all connections of a node have
the same."""


class PeerRefusedError(Exception):
    """The connection must be closed; the text is the reason in the metrics."""


def check_context(context: ssl.SSLContext) -> None:
    """Raise ValueError unless a context verifies the other side's certificate and speaks TLS 1.3 only."""
    if context.verify_mode is not ssl.CERT_REQUIRED:
        raise ValueError("the context of a tunnel does not require a certificate")
    if context.minimum_version is not ssl.TLSVersion.TLSv1_3:
        raise ValueError("the context of a tunnel accepts TLS before 1.3")


def check_session(tls: ssl.SSLObject, now: Callable[[], float] = time.time) -> Mapping[str, Any]:
    """Check what both sides have agreed on, and that the peer's certificate is valid now; return it, as a dictionary.

    Raises PeerRefusedError. OpenSSL has checked the chain; the dictionary is what `getpeercert` returns.
    """
    if tls.version() != _VERSION:
        raise PeerRefusedError("version")
    if tls.selected_alpn_protocol() != PROTOCOL:
        raise PeerRefusedError("protocol")
    certificate: Any = tls.getpeercert()
    if not certificate:
        raise PeerRefusedError("certificate")
    at = now()
    if not read_certificate_time(certificate["notBefore"]) <= at <= read_certificate_time(certificate["notAfter"]):
        raise PeerRefusedError("certificate")
    return certificate  # type: ignore[no-any-return]


def check_identity(certificate: Mapping[str, Any], identity: str, revoked: Sequence[str] = ()) -> None:
    """Check that a certificate has this URI and no other, and is not revoked. Raises PeerRefusedError."""
    names: Sequence[tuple[str, str]] = certificate.get("subjectAltName", ())
    if [value for kind, value in names if kind == "URI"] != [identity]:
        raise PeerRefusedError("identity")
    if certificate.get("serialNumber") in revoked:
        raise PeerRefusedError("revoked")


read_certificate_time: Final = lru_cache(maxsize=CACHED_TIMES)(ssl.cert_time_to_seconds)
"""Return a time of a certificate, as `getpeercert` shows it, in seconds since the epoch. Raises ValueError."""
