"""The certificates of an API server for tests: its own, and those of clients.

They are made with trustme, which the dependency group `test` installs.
"""

import base64
import ssl

HOSTS = ("127.0.0.1", "localhost", "kubernetes.default.svc")


class Authority:
    """An authority, the server's certificate, and client certificates by user name."""

    def __init__(self) -> None:
        import trustme  # nobody else needs it

        self._authority = trustme.CA()

    def __repr__(self) -> str:
        return "<Authority>"

    @property
    def pem(self) -> bytes:
        """The authority's certificate."""
        return self._authority.cert_pem.bytes()

    @property
    def encoded(self) -> str:
        """The authority's certificate as kubeconfigs have it."""
        return base64.b64encode(self.pem).decode()

    def issue_client(self, user: str) -> tuple[bytes, bytes]:
        """Issue a client certificate; return it and its key, as PEM."""
        issued = self._authority.issue_cert(common_name=user)
        return b"".join(blob.bytes() for blob in issued.cert_chain_pems), issued.private_key_pem.bytes()

    def build_context(self) -> ssl.SSLContext:
        """Build the server's side of TLS; clients may bring a certificate."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._authority.issue_cert(*HOSTS).configure_cert(context)
        self._authority.configure_trust(context)
        context.verify_mode = ssl.CERT_OPTIONAL
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # API servers ask clients for no subject alternative name
        return context
