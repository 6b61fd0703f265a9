"""For tests of TLS to servers: authorities and certificates, and a server whose bytes a test moves itself."""

import contextlib
import datetime
import ssl

import trustme

NAME = "db.example.com"
AUTHORITY = trustme.CA()
OTHER_AUTHORITY = trustme.CA()


def build_server_context(name=NAME, *, authority=AUTHORITY, is_expired=False, version=ssl.TLSVersion.TLSv1_3):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    dates = {"not_before": yesterday - datetime.timedelta(days=9), "not_after": yesterday} if is_expired else {}
    authority.issue_cert(name, **dates).configure_cert(context)
    context.minimum_version = context.maximum_version = version
    return context


def build_self_signed_context():
    lone = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with lone.cert_pem.tempfile() as certificate, lone.private_key_pem.tempfile() as key:
        context.load_cert_chain(certificate, key)
    return context


def build_client_context(authority=AUTHORITY):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    authority.configure_trust(context)
    return context


class MemoryServer:
    """A TLS server between two buffers: `feed` receives what the client sends, and returns what it gets back."""

    def __init__(self, context):
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self.received = b""
        self.is_open = self.has_ended = False

    def feed(self, data):
        self._incoming.write(data)
        try:
            if not self.is_open:
                self.tls.do_handshake()
                self.is_open = True
            while not self.has_ended:
                read = self.tls.read(65536)
                self.received += read
                self.has_ended = not read
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.has_ended = True
        return self._outgoing.read()

    def write(self, data):
        view = memoryview(data)
        while view:
            view = view[self.tls.write(view) :]
        return self._outgoing.read()

    def end(self):
        """Send close_notify."""
        with contextlib.suppress(ssl.SSLError):
            self.tls.unwrap()
        return self._outgoing.read()
