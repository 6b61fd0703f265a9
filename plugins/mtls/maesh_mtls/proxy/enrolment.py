"""A program that gets a certificate for a node: `python -m maesh_mtls.proxy.enrolment`.

Reads an EnrolmentOrder from its input. Makes a key and a request for a certificate, sends the request with the node's
token to the controller, checks the answer, and writes Credentials to its output, or an EnrolmentFailure with exit
status 1. It is a process of its own because `cryptography` needs memory that a proxy would otherwise keep. The key is
in no file.
"""

import http.client
import itertools
import ssl
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from maesh_mtls.core_dumps import forbid_core_dumps
from maesh_mtls.loopback import is_loopback
from maesh_mtls.trust import hash_trust
from maesh_mtls.wire import (
    PAGE_PATH,
    CertificateAnswer,
    CertificateRequest,
    Credentials,
    EnrolmentFailure,
    EnrolmentOrder,
)

CONNECTION_TIMEOUT_S: Final = 10.0
ANSWER_LIMIT_BYTES: Final = 64 * 1024
ORDER_LIMIT_BYTES: Final = 64 * 1024
TOKEN_LIMIT_BYTES: Final = 16 * 1024
REFUSAL_CHARACTERS: Final = 200
"""So much of the controller's reason is shown."""
_CONFIGURATION_PATH: Final = "/api/configuration/current"
"""`--endpoint` may end with it."""


class FailedError(Exception):
    """There are no credentials. `reason` is a label of the metric."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def main() -> int:
    """Execute the order on the input."""
    forbid_core_dumps()
    try:
        order = msgspec.json.decode(sys.stdin.buffer.read(ORDER_LIMIT_BYTES), type=EnrolmentOrder)
        result: msgspec.Struct = get_credentials(order, time.time())
        status = 0
    except FailedError as error:
        result, status = EnrolmentFailure(reason=error.reason, text=str(error)), 1
    except (msgspec.DecodeError, UnicodeDecodeError):
        result, status = EnrolmentFailure(reason="order", text="the order cannot be read"), 1
    sys.stdout.buffer.write(msgspec.json.encode(result))
    sys.stdout.buffer.flush()
    return status


def get_credentials(order: EnrolmentOrder, now: float) -> Credentials:
    """Make a key, and get a certificate for it. Raises FailedError."""
    token = _read_token(order.token, "mtls.token")
    trusted = _read_file(order.trust, "mtls.trust", ANSWER_LIMIT_BYTES) if order.trust else ""
    key = ec.generate_private_key(ec.SECP256R1())
    request = CertificateRequest(csr=build_request(key), token=token, node=order.node)
    answer = request_certificate(order, request, trusted)
    return build_credentials(key, answer, bundle=trusted or answer.bundle, node=order.node, now=now)


def _read_file(path: str, setting: str, limit_bytes: int) -> str:
    try:
        with Path(path).open("rb") as file:
            content = file.read(limit_bytes + 1)
    except OSError as error:
        raise FailedError("settings", f"{setting}: {path}: {error.strerror}") from error
    if not content or len(content) > limit_bytes or not content.isascii():
        raise FailedError("settings", f"{setting}: {path} is empty, too large or not ASCII")
    return content.decode("ascii")


def _read_token(path: str, setting: str) -> str:
    """Read the last word of the first line, so that the line may be one of the controller's file."""
    words = _read_file(path, setting, TOKEN_LIMIT_BYTES).partition("\n")[0].split()
    if not words:
        raise FailedError("settings", f"{setting}: {path} has no token in its first line")
    return words[-1]


def build_request(key: ec.EllipticCurvePrivateKey) -> str:
    """Build a request for a certificate. It names nothing, because the controller uses only its key."""
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode("ascii")


def request_certificate(order: EnrolmentOrder, request: CertificateRequest, trusted: str) -> CertificateAnswer:
    """Send a request to the controller; `trusted` are the certificates of the authority in PEM, if they are known.

    Raises FailedError.
    """
    url = urlsplit(order.endpoint)
    if order.api_trust:
        trusted = _read_file(order.api_trust, "root-ca-controller", ANSWER_LIMIT_BYTES)
    fields = {"Content-Type": "application/json"}
    if order.api_token:
        fields["Authorization"] = f"Bearer {_read_token(order.api_token, 'controller-token')}"
    connection = _build_connection(url, trusted, allows_clear=order.allow_clear)
    path = url.path.rstrip("/").removesuffix(_CONFIGURATION_PATH) + PAGE_PATH
    try:
        connection.request("POST", path, body=msgspec.json.encode(request), headers=fields)
        with connection.getresponse() as response:
            status, body = response.status, response.read(ANSWER_LIMIT_BYTES + 1)
    except ssl.SSLCertVerificationError as error:
        raise FailedError("controller", f"the controller's certificate is refused: {error.verify_message}") from error
    except (OSError, http.client.HTTPException) as error:
        text = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise FailedError("connection", f"{url.netloc}: {text}") from error
    finally:
        connection.close()
    if status != http.client.OK:
        raise FailedError(f"status-{status}", _describe_refusal(url, status, body))
    try:
        return msgspec.json.decode(body, type=CertificateAnswer)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise FailedError("answer", f"{url.netloc} answered with something that is no certificate") from None


def _describe_refusal(url: SplitResult, status: int, body: bytes) -> str:
    text = "".join(each if each.isprintable() else " " for each in body.decode("utf-8", "replace"))
    return f"{url.netloc} answered {status}: {text.strip()[:REFUSAL_CHARACTERS]}"


def _build_connection(url: SplitResult, trusted: str, *, allows_clear: bool) -> http.client.HTTPConnection:
    host = url.hostname or ""
    if url.scheme == "https":
        try:
            context = ssl.create_default_context(cadata=trusted or None)
        except ssl.SSLError:
            raise FailedError("settings", "the file of trusted certificates has no certificate in PEM") from None
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return http.client.HTTPSConnection(host, url.port, timeout=CONNECTION_TIMEOUT_S, context=context)
    if not allows_clear and not is_loopback(host):
        text = "the token is not sent in clear to another machine; use https, or the setting mtls.allow-clear"
        raise FailedError("clear", text)
    return http.client.HTTPConnection(host, url.port, timeout=CONNECTION_TIMEOUT_S)


def build_credentials(
    key: ec.EllipticCurvePrivateKey, answer: CertificateAnswer, *, bundle: str, node: str, now: float
) -> Credentials:
    """Check the answer, and combine it with the key. Raises FailedError."""
    try:
        chain = x509.load_pem_x509_certificates(answer.chain.encode("ascii"))
        trusted = x509.load_pem_x509_certificates(bundle.encode("ascii"))
        own = chain[0]
        names = own.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        is_ours = own.public_key() == key.public_key()
    except (
        *(ValueError, TypeError, UnsupportedAlgorithm),
        *(x509.ExtensionNotFound, x509.DuplicateExtension, x509.InvalidVersion),
    ):
        raise FailedError("answer", "the controller answered with something that is no certificate") from None
    identities = names.get_values_for_type(x509.UniformResourceIdentifier)
    if not is_ours or len(names) != 1 or len(identities) != 1 or not identities[0].endswith(f"/maesh/node/{node}"):
        raise FailedError("answer", "the controller answered with a certificate of another key or node")
    if not is_issued(chain, trusted):
        raise FailedError("trust", "the certificate is not signed by an authority that this proxy trusts")
    starts, ends = own.not_valid_before_utc.timestamp(), own.not_valid_after_utc.timestamp()
    if not starts <= now < ends:
        raise FailedError("clock", "the certificate is not valid by this machine's clock; is it right?")
    return Credentials(
        key=_encode_key(key),
        chain=answer.chain,
        bundle=bundle,
        identity=identities[0],
        serial=render_serial(own.serial_number),
        not_before=starts,
        not_after=ends,
        issued=now,
        trust=hash_trust(bundle),
        authority=_read_issuer(own),
    )


def _read_issuer(certificate: x509.Certificate) -> str:
    """Read the key identifier of the issuer; empty if there is none."""
    try:
        issuer = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    except x509.ExtensionNotFound:
        return ""
    return (issuer.key_identifier or b"").hex()


def is_issued(chain: Sequence[x509.Certificate], trusted: Sequence[x509.Certificate]) -> bool:
    """Whether each certificate of a chain is signed by the next one, and the last one by a trusted one.

    This only finds mistakes early: each handshake checks the whole chain.
    """
    return all(_is_signed_by(each, issuer) for each, issuer in itertools.pairwise(chain)) and any(
        _is_signed_by(chain[-1], issuer) for issuer in trusted
    )


def _is_signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def render_serial(serial: int) -> str:
    """Write a serial number as `SSLObject.getpeercert` does: whole bytes in upper-case hexadecimal."""
    digits = f"{serial:X}"
    return f"0{digits}" if len(digits) % 2 else digits


def _encode_key(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode("ascii")


if __name__ == "__main__":
    sys.exit(main())
