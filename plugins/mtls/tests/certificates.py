"""Real authorities, keys and certificates, also those that an authority must not sign."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from maesh_mtls.controller.authority.ca import SigningAuthority, build_authority_certificate
from maesh_mtls.controller.authority.node_certificates import CertificateIssuer
from maesh_mtls.proxy.enrolment import build_credentials, build_request
from maesh_mtls.wire import Credentials

DOMAIN = "cluster.local"
DAY = timedelta(days=1)


def make_key():
    return ec.generate_private_key(ec.SECP256R1())


def encode(item):
    if isinstance(item, x509.Certificate | x509.CertificateSigningRequest):
        return item.public_bytes(serialization.Encoding.PEM).decode()
    return item.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def make_signer(now=None):
    key = make_key()
    certificate = build_authority_certificate(key, now or datetime.now(UTC))
    return SigningAuthority(certificate, key, "", encode(certificate))


def write_signer(folder: Path, signer):
    (folder / "tls.crt").write_text(encode(signer.certificate))
    (folder / "tls.key").write_text(encode(signer.key))
    (folder / "tls.key").chmod(0o600)


def make_authority(signer, lifetime=DAY, *, now=None):
    return CertificateIssuer(lambda: signer, DOMAIN, lifetime, now=now or (lambda: datetime.now(UTC)))


class PlainSigner:
    """Implements `NodeSigner`, without a store."""

    def __init__(self, authority):
        self._authority = authority

    async def sign(self, csr, node):
        return self._authority.sign(csr, node)


def make_credentials(signer, node, *, at=None, lifetime=DAY):
    """Enrol a node as the controller and the enrolment process do it, at a moment."""
    moment = at or datetime.now(UTC)
    key = make_key()
    answer = make_authority(signer, lifetime, now=lambda: moment).sign(build_request(key), node)
    return build_credentials(key, answer, bundle=answer.bundle, node=node, now=moment.timestamp())


def make_leaf(signer, uris, *, dns=(), key=None, starts=-DAY, ends=DAY, serial=None):
    """Sign a certificate that the authority would not sign; returns credentials with it."""
    key = key or make_key()
    now = datetime.now(UTC)
    names = [*(x509.UniformResourceIdentifier(uri) for uri in uris), *(x509.DNSName(name) for name in dns)]
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(signer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(now + starts)
        .not_valid_after(now + ends)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=True)
    certificate = builder.sign(signer.key, hashes.SHA256())
    return Credentials(
        key=encode(key),
        chain=encode(certificate),
        bundle=signer.bundle,
        identity=uris[0] if uris else "",
        serial=f"{certificate.serial_number:X}",
        not_before=(now + starts).timestamp(),
        not_after=(now + ends).timestamp(),
    )


def make_rsa_key(bits=2048):
    return rsa.generate_private_key(65537, bits)
