"""The certificate of the controller's API, and its contexts: for those who ask it, and to ask other controllers.

Takes the files of a certificate chain and a key, as PEM; returns a new context whenever they are replaced. The replicas
of a controller have the same certificate, so each trusts exactly its own when it asks another.
"""

import ssl
from collections.abc import Callable, Sequence

from maesh_core.controller.api.security.followed_files import FollowedFiles
from maesh_core.process.tls_contexts import load_pem

FLAGS = "--api-cert, --api-key"


class ApiCertificate:
    """The certificate. `context` is that of the server, `peer_context` that of requests to other controllers."""

    __slots__ = ("_contents", "_on_change", "_paths", "context", "files", "peer_context")

    context: ssl.SSLContext
    peer_context: ssl.SSLContext

    def __init__(self, certificate: str, key: str) -> None:
        self._paths = (certificate, key)
        self._contents: Sequence[bytes] = ()
        self._on_change: Callable[[ssl.SSLContext], None] = lambda context: None
        self.files = FollowedFiles("the API's certificate", self._paths, self._use, flag=FLAGS)
        self.files.load()

    def __repr__(self) -> str:
        return f"<ApiCertificate {self._paths[0]}>"

    def on_change(self, callback: Callable[[ssl.SSLContext], None]) -> None:
        """Call back with each further context of the server."""
        self._on_change = callback

    def build_contexts(self) -> tuple[ssl.SSLContext, ssl.SSLContext]:
        """Build new contexts, of the server and to other controllers, from what was read last."""
        return self._build(self._contents)

    def _use(self, contents: Sequence[bytes]) -> None:
        self.context, self.peer_context = self._build(contents)
        self._contents = contents
        self._on_change(self.context)

    def _build(self, contents: Sequence[bytes]) -> tuple[ssl.SSLContext, ssl.SSLContext]:
        """Build contexts. A chain and a key that do not fit together are refused, as between their replacements."""
        certificate, key = contents
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        peer_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        peer_context.check_hostname = False  # its own certificate is the only one that is trusted
        peer_context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        try:
            load_pem(context, key + b"\n" + certificate)
            peer_context.load_verify_locations(cadata=_cut_first(certificate))
        except ssl.SSLError as error:
            names = " and ".join(self._paths)
            raise ValueError(f"{names} are not a certificate and its key: {error.reason}") from error
        context.set_alpn_protocols(["http/1.1"])
        return context, peer_context


def _cut_first(chain: bytes) -> str:
    """Cut the first certificate out of a chain."""
    end = "-----END CERTIFICATE-----"
    head, mark, _ = chain.decode("ascii", "replace").partition(end)
    return head[head.find("-----BEGIN CERTIFICATE-----") :] + mark
