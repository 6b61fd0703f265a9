"""Builds the TLS contexts of a node from its credentials, without writing the key to a disk.

Both contexts accept TLS 1.3 only, with the protocol h2, and require a certificate that an authority of the bundle has
signed. Names of hosts are not checked, because identities are: those of servers by the engine, those of clients by
rules.py.
"""

import os
import ssl
from typing import NamedTuple

from maesh_mtls.wire import Credentials

PROTOCOL = "h2"


class Contexts(NamedTuple):
    """The contexts of both roles."""

    client: ssl.SSLContext
    server: ssl.SSLContext


def build_contexts(credentials: Credentials) -> Contexts:
    """Build both contexts. Raises OSError (ssl.SSLError is one) or ValueError if the credentials are unusable."""
    pem = f"{credentials.key}\n{credentials.chain}".encode("ascii")
    descriptor = os.memfd_create("maesh-mtls", os.MFD_CLOEXEC)
    try:
        _write(descriptor, pem)
        path = f"/proc/self/fd/{descriptor}"  # `ssl` reads keys from files only
        client = _build(ssl.PROTOCOL_TLS_CLIENT, path, credentials.bundle)
        server = _build(ssl.PROTOCOL_TLS_SERVER, path, credentials.bundle)
    finally:
        os.close(descriptor)
    server.num_tickets = 1
    return Contexts(client, server)


def _write(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def _build(role: int, path: str, bundle: str) -> ssl.SSLContext:
    context = ssl.SSLContext(role)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols([PROTOCOL])
    context.load_cert_chain(path)
    context.load_verify_locations(cadata=bundle)
    return context
