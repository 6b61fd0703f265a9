"""TLS to servers: which certificates are trusted, and for which names.

Takes the settings, returns an SSL context, and checks the certificates of connections. The proxy connects to a pod's
address, which certificates seldom contain; they usually contain the name of its service. Either is accepted. The name
is `service.namespace.svc`, for which no public authority issues certificates.

This is TLS between a proxy and a server, which needs no other proxy. Connections between proxies belong to a transport
(proxy/transport/); if there is one, the TLS to a server runs inside its path.
"""

import ipaddress
import ssl
from collections.abc import Mapping
from typing import Any

from maesh_core.errors import SettingsError

_HTTP_1 = ("http/1.1",)
_HTTP_2 = ("h2", *_HTTP_1)


class UpstreamTls:
    """The trust in servers. A context is created when it is first needed, since system roots use a megabyte.

    Servers outside of the mesh, which have DNS names, are always verified; `is_verifying` only concerns the others.
    """

    __slots__ = ("_contexts", "_offers_http2", "_root_ca", "is_verifying")

    def __init__(self, *, root_ca: str, is_verifying: bool, offers_http2: bool = False) -> None:
        self._offers_http2 = offers_http2
        self.is_verifying = is_verifying
        self._root_ca = root_ca
        self._contexts: dict[tuple[tuple[str, ...], bool], ssl.SSLContext] = {}
        if root_ca:  # to fail at the start if it cannot be read
            self.get_context(offers_http2=offers_http2)

    def __repr__(self) -> str:
        return f"<UpstreamTls verifying={self.is_verifying} root_ca={self._root_ca!r}>"

    def get_context(self, *, offers_http2: bool, is_outside: bool = False) -> ssl.SSLContext:
        """Return the context of a connection; `accepts` checks names, since either the address or the name may match.

        Without `offers_http2`, the server can only choose HTTP/1.1 (ALPN).
        """
        offered = _HTTP_2 if offers_http2 and self._offers_http2 else _HTTP_1
        return self._find_context(offered, is_outside=is_outside)

    def get_stream_context(self, *, is_outside: bool) -> ssl.SSLContext:
        """Return the context of a connection that carries a stream: it offers no protocol (ALPN)."""
        return self._find_context((), is_outside=is_outside)

    def _find_context(self, offered: tuple[str, ...], *, is_outside: bool) -> ssl.SSLContext:
        kind = (offered, is_outside or self.is_verifying)
        context = self._contexts.get(kind)
        if context is None:
            context = self._contexts[kind] = self._build_context(offered, is_verifying=kind[1])
        return context

    def accepts(self, ssl_object: ssl.SSLObject | None, *, address: str, name: str, is_outside: bool = False) -> bool:
        """Return whether a connection's verified certificate is for the address or the name.

        True if certificates are not verified. The certificate of a server outside of the mesh must be for the name,
        because the address comes from DNS.
        """
        if not (self.is_verifying or is_outside):
            return True
        certificate = ssl_object.getpeercert() if ssl_object is not None else None
        accepted = "" if is_outside else address
        return certificate is not None and matches_any_name(certificate, address=accepted, name=name)

    def _build_context(self, offered: tuple[str, ...], *, is_verifying: bool) -> ssl.SSLContext:
        context = ssl.create_default_context()
        if self._root_ca:
            try:
                context.load_verify_locations(cafile=self._root_ca)
            except OSError as error:  # includes ssl.SSLError
                reason = "it contains no certificates" if isinstance(error, ssl.SSLError) else error.strerror
                raise SettingsError(f"cannot read {self._root_ca} (--root-ca): {reason}") from error
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED if is_verifying else ssl.CERT_NONE
        if offered:
            context.set_alpn_protocols(list(offered))
        return context


def is_cut_off(ssl_object: ssl.SSLObject | None) -> bool:
    """Return whether a connection ended without a close_notify: anyone on the path can cut a connection.

    A body that is delimited only by the end of the connection is then incomplete (RFC 9112 section 9.8). False without
    TLS.
    """
    if ssl_object is None:
        return False
    try:
        return bool(ssl_object.read(1))
    except ssl.SSLZeroReturnError:
        return False
    except ssl.SSLError:
        return True


def matches_any_name(certificate: Mapping[str, Any], *, address: str, name: str) -> bool:
    """Return whether a certificate, as from `getpeercert`, is for an address or a DNS name (RFC 9525 section 6).

    Only subject alternative names count, never the common name. A wildcard matches exactly one label, the first.
    """
    for kind, value in certificate.get("subjectAltName", ()):
        if kind == "IP Address" and _is_same_address(value, address):
            return True
        if kind == "DNS" and name and _is_same_name(value.lower(), name.lower()):
            return True
    return False


def _is_same_address(value: str, address: str) -> bool:
    try:
        return ipaddress.ip_address(value.strip()) == ipaddress.ip_address(address)
    except ValueError:
        return False


def _is_same_name(pattern: str, name: str) -> bool:
    if pattern.startswith("*."):
        return name.partition(".")[2] == pattern[2:]
    return pattern == name
