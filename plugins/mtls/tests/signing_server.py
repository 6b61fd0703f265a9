"""The controller's page behind a small HTTP server, in a thread, over TCP or TLS."""

import asyncio
import ipaddress
import ssl
import tempfile
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from maesh_mtls.wire import PAGE_PATH

from maesh_core.plugin import PostRequest

from .certificates import encode, make_key


class SigningServer:
    """Answers POST requests with a page, or with what `answer` returns for a body."""

    def __init__(self, answer, *, context=None):
        self.requests = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.requests.append((self.path, dict(self.headers), body))
                status, content = answer(self.path, body, self.client_address[0])
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                pass

        class Server(HTTPServer):
            def handle_error(self, *_):  # a client that refuses the certificate
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def answer_with_page(page):
    def answer(path, body, remote):
        if path != PAGE_PATH:
            return 404, b"not found\n"
        response = asyncio.run(page.respond_to_post(PostRequest(body=body, remote=remote)))
        return response.status, response.body

    return answer


def build_server_context(signer, address="127.0.0.1"):
    """Build the context of a controller whose certificate an authority has signed for an address."""
    key, now = make_key(), datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(signer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key()), critical=False)
        .sign(signer.key, hashes.SHA256())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "both.pem"
        path.write_text(encode(key) + encode(certificate))
        context.load_cert_chain(path)
    return context
