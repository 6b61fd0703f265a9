"""The page on which nodes get their certificates: `POST /mtls/certificates`.

Takes the body of a request and how it came; returns a certificate, or a refusal as one line of text. A refusal is 400
(the body or the request for a certificate), 401 (the token), 403 (the node, or a token that was sent in clear), 429
(too many requests) or 503 (there is no authority, or no way to check tokens).
"""

import logging
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec

from maesh_core.plugin import MetricFamily, PageRequest, PageResponse, PostRequest, RefusalLog
from maesh_mtls.controller.authority.keeper import AuthorityUnavailableError
from maesh_mtls.controller.authority.node_certificates import AuthorityEndedError, RequestRefusedError
from maesh_mtls.controller.authority.signing import NodeRevokedError
from maesh_mtls.controller.proofs.node_tokens import Proof, ProofRefusedError
from maesh_mtls.controller.proofs.request_limits import BusyError, RequestLimits
from maesh_mtls.identity import is_node_name
from maesh_mtls.loopback import is_loopback
from maesh_mtls.wire import PAGE_PATH, CertificateAnswer, CertificateRequest

BODY_LIMIT_BYTES: Final = 16 * 1024
RETRY_AFTER_S: Final = 10

_log = logging.getLogger(__name__)
_decode = msgspec.json.Decoder(CertificateRequest).decode


class _RefusedError(Exception):
    """A request is refused. The text contains nothing that the sender chose; `logged` is that of the log."""

    def __init__(self, status: int, reason: str, text: str, *, logged: str = "") -> None:
        super().__init__(text)
        self.status = status
        self.reason = reason
        self.logged = logged or text


class NodeSigner(Protocol):
    """Signs for nodes."""

    async def sign(self, csr: str, node: str) -> CertificateAnswer:
        """Sign a certificate for a node that has proven who it is.

        Raises NodeRevokedError, AuthorityUnavailableError, RequestRefusedError and AuthorityEndedError.
        """


class CertificatePage:
    """Signs certificates for nodes that prove who they are.

    `is_proxy`: whether an address is that of a proxy of the mesh.
    """

    path = PAGE_PATH
    is_open = True  # it checks the token in the body of each request
    body_limit_bytes = BODY_LIMIT_BYTES

    def __init__(
        self,
        signer: NodeSigner | None,
        proof: Proof | None,
        *,
        allows_clear: bool,
        clock: Callable[[], float],
        is_proxy: Callable[[str], bool] = lambda address: False,
    ) -> None:
        self._signer = signer
        self._proof = proof
        self._allows_clear = allows_clear
        self._limits = RequestLimits(clock, is_proxy)
        self._refusals = RefusalLog(clock)
        self._signed = 0

    def __repr__(self) -> str:
        return f"<CertificatePage {self._signed} signed>"

    async def respond(self, request: PageRequest) -> PageResponse:
        """Answer a GET request: there is nothing to read."""
        return PageResponse(status=405, headers={"Allow": "POST"}, body=b"only POST is supported\n")

    async def respond_to_post(self, request: PostRequest) -> PageResponse:
        """Sign a certificate, or refuse the request."""
        node, remote = "", request.remote
        try:
            wanted = self._parse(request)
            node = wanted.node
            answer = await self._sign(wanted, remote)
        except _RefusedError as error:
            self._refusals.note(remote, error.reason, f"no certificate: {error.logged}", node=node)
            headers = {"Cache-Control": "no-store"}
            if error.status == 429:
                headers["Retry-After"] = str(RETRY_AFTER_S)
            return PageResponse(status=error.status, headers=headers, body=f"{error}\n".encode())
        self._signed += 1
        _log.info("signed a certificate for node %s (request from %s)", node, remote)
        return PageResponse(content_type="application/json", headers={"Cache-Control": "no-store"}, body=answer)

    def collect_metrics(self) -> Sequence[MetricFamily]:
        """Return the counts of signed and refused requests."""
        return [
            MetricFamily(
                name="maesh_mtls_signed_certificates",
                type="counter",
                help="Certificates that this controller has signed for nodes.",
                samples=(((), self._signed),),
            ),
            MetricFamily(
                name="maesh_mtls_refused_requests",
                type="counter",
                help="Requests for certificates that were refused.",
                labels=("reason",),
                samples=self._refusals.list_counts(),
            ),
        ]

    def _parse(self, post: PostRequest) -> CertificateRequest:
        if not (post.is_encrypted or self._allows_clear or is_loopback(post.remote)):
            raise _RefusedError(403, "clear", "tokens are not accepted in clear from other machines")
        try:
            request = _decode(post.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise _RefusedError(400, "body", "the body is not {csr, token, node} in JSON") from None
        if not is_node_name(request.node):
            raise _RefusedError(400, "node-name", "the name cannot be that of a node")
        return request

    async def _sign(self, request: CertificateRequest, remote: str) -> bytes:
        if self._signer is None or self._proof is None:
            setting = "ca" if self._signer is None else "tokens"
            raise _RefusedError(503, "not-configured", f"the controller has no setting mtls.{setting}")
        try:
            with self._limits.hold(remote):
                await self._proof.check(request.token, request.node, remote)
            self._limits.note_request(request.node)
            return msgspec.json.encode(await self._signer.sign(request.csr, request.node))
        except BusyError:
            raise _RefusedError(429, "busy", "too many requests; try again later") from None
        except ProofRefusedError as error:
            text = str(error) if error.status != 503 else "the controller cannot check tokens"
            raise _RefusedError(error.status, error.reason, text, logged=str(error)) from error
        except RequestRefusedError as error:
            raise _RefusedError(400, "csr", str(error)) from error
        except NodeRevokedError as error:
            raise _RefusedError(403, "revoked", str(error)) from error
        except (AuthorityEndedError, AuthorityUnavailableError) as error:
            text = "the controller has no authority that can sign now"
            raise _RefusedError(503, "authority", text, logged=str(error)) from error
