"""Builds TLS contexts from credentials in memory, for ports that only the mesh itself and its users connect to.

Takes credentials and, for a client, what decides whether the other side is the right one; returns contexts. The key is
never in a file of a disk. Certificates are checked against the authorities of the credentials only.
"""

import os
import ssl
from collections.abc import Callable, Mapping
from typing import Any

from maesh_core.process.tls_credentials import TlsCredentials

CheckPeer = Callable[[Mapping[str, Any], str], bool]
"""Decides about a verified certificate, as `SSLObject.getpeercert` describes it, and the name that was connected to."""

_PROTOCOLS = ["http/1.1"]


def build_server_context(credentials: TlsCredentials) -> ssl.SSLContext:
    """Build the context of a server: clients may show a certificate, which must then be valid."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(_PROTOCOLS)
    load_key(context, credentials)
    accept_clients(context, credentials.bundle)
    return context


def accept_clients(context: ssl.SSLContext, bundle: str) -> None:
    """Let a new context of a server verify the certificates of clients that show one.

    A context never forgets an authority, so another bundle needs another context.
    """
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_verify_locations(cadata=bundle)


def load_key(context: ssl.SSLContext, credentials: TlsCredentials) -> None:
    """Load key and certificates. Raises OSError (ssl.SSLError is one) or ValueError."""
    load_pem(context, f"{credentials.key}\n{credentials.chain}".encode("ascii"))


def load_pem(context: ssl.SSLContext, content: bytes) -> None:
    """Load a key and its certificates. Raises OSError (ssl.SSLError is one)."""
    descriptor = os.memfd_create("maesh-tls", os.MFD_CLOEXEC)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password="")  # `ssl` reads keys from files only
    finally:
        os.close(descriptor)


class CheckingContext(ssl.SSLContext):
    """The context of a client that decides about the server's certificate by `check_peer`, not by its DNS names.

    The decision is a part of the handshake, so nothing is sent to a wrong server.
    """

    check_peer: CheckPeer


class _CheckedConnection(ssl.SSLObject):
    """A connection whose handshake fails if `check_peer` of its context returns False."""

    def do_handshake(self) -> None:
        """Do the handshake; raises ssl.SSLCertVerificationError for a wrong server."""
        super().do_handshake()
        context = self.context
        certificate = self.getpeercert()
        if (
            not isinstance(context, CheckingContext)
            or not certificate
            or not context.check_peer(certificate, self.server_hostname or "")
        ):
            raise ssl.SSLCertVerificationError("the certificate is not that of the expected server")


CheckingContext.sslobject_class = _CheckedConnection


def build_checking_context(credentials: TlsCredentials, check_peer: CheckPeer) -> CheckingContext:
    """Build the context of a client that shows its certificate, and accepts the servers that `check_peer` does."""
    context = CheckingContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(_PROTOCOLS)
    context.check_peer = check_peer
    load_key(context, credentials)
    context.load_verify_locations(cadata=credentials.bundle)
    return context
