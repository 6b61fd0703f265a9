"""Makes an authority, certificates of nodes, and contexts that use them."""

import datetime
import ssl
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = datetime.timedelta(days=1)


def build_identity(node):
    return f"spiffe://cluster.local/maesh/node/{node}"


class Authority:
    """Signs certificates of nodes, and builds the contexts of a node."""

    def __init__(self, name="maesh"):
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._certificate = self._build(self._name, self._key, is_authority=True)

    def _build(self, subject, key, *, starts_in=-DAY, ends_in=DAY, uris=(), is_authority=False):
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + starts_in)
            .not_valid_after(now + ends_in)
            .add_extension(x509.BasicConstraints(is_authority, 0 if is_authority else None), critical=True)
        )
        if uris:
            names = [x509.UniformResourceIdentifier(uri) for uri in uris]
            usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=True)
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        return builder.sign(self._key, hashes.SHA256())

    @property
    def pem(self):
        return self._certificate.public_bytes(serialization.Encoding.PEM).decode()

    def build_context(self, node, *, is_server, trusted=None, alpn=("h2",), uris=None, **validity):
        """Build one side's context of a node."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if is_server else ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=(trusted or self).pem)
        if alpn:
            context.set_alpn_protocols(list(alpn))
        if node:
            self._load(context, [build_identity(node)] if uris is None else uris, validity)
        return context

    def _load(self, context, uris, validity):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "node.pem"
            self.write(path, uris, **validity)
            context.load_cert_chain(path)

    def write(self, path, uris, **validity):
        """Write a new certificate and its key to a file."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._build(x509.Name([]), key, uris=uris, **validity)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + private)

    def build_contexts(self, node, **options):
        """Build the contexts of a node as `Tunnels.use` gets them."""
        return (
            self.build_context(node, is_server=False, **options),
            self.build_context(node, is_server=True, **options),
        )
