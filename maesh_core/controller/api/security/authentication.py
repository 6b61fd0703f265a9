"""Decides who sends a request to the controller's API, and whether that caller may use the path.

Takes requests; returns callers, or refusals. A caller is a node or another controller, proven by a client certificate;
the owner of a token of the file; or the owner of a token that the cluster's API server knows, which also decides what
people and tools may read. Whatever cannot be checked is refused. No token gets into a log or an answer.
"""

import base64
import binascii
import hashlib
from collections.abc import Collection, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, Literal, Protocol

import msgspec

from maesh_core.controller.api.paths import PROBE_PATHS, PULL_PATH, REPORTS_PATH
from maesh_core.controller.api.security.bearer_tokens import BearerTokens
from maesh_core.controller.api.security.browser_guard import Refusal
from maesh_core.errors import KubernetesError
from maesh_core.model.metrics import MetricFamily
from maesh_core.model.token_identity import TokenIdentity
from maesh_core.plain_http.connection_places import LOOPBACK
from maesh_core.plain_http.messages import Request, read_field
from maesh_core.plain_http.refusals import RefusalLog

AUDIENCE: Final = "maesh-api"
"""The audience of tokens that are made for this API."""
NODE_PREFIX: Final = "node/"
"""A name in the file of tokens that begins with this is that of a node."""
BAD_TOKENS_LIMIT: Final = 60
"""Tokens from one address that the API server may refuse in a minute; further unknown ones are not sent to it."""
LOOPBACK_BAD_TOKENS_LIMIT: Final = 600
"""The same for an address of loopback, which all who use port-forwards share."""
ACCEPTED_LIMIT: Final = 1024
"""Tokens that were accepted before, and are checked whatever else their address sends; kept as hashes."""
ACCESS_PREFIX: Final = "/maesh"
"""It precedes the path when the API server is asked whether a person may use it. By default, Kubernetes lets every
account `get` the paths `/api/*` of the API server (ClusterRole `system:discovery`); nobody is allowed these."""
CHALLENGE: Mapping[str, str] = {"WWW-Authenticate": 'Bearer realm="maesh"'}
"""A field of every response with 401 (RFC 6750 section 3)."""
RETRY: Mapping[str, str] = {"Retry-After": "1"}
"""A field of every response with 429 and 503."""

_SCHEME = "bearer "
_READING = (b"GET", b"HEAD")


class Caller(msgspec.Struct, frozen=True):
    """Who sends a request. `anyone` has proven nothing, and may use what needs no proof."""

    kind: Literal["anyone", "node", "controller", "person"]
    name: str = ""


ANYONE: Final = Caller("anyone")


class Reviewer(Protocol):
    """The API server of the cluster; both methods raise KubernetesError if it does not answer."""

    async def review_token(self, token: str, audiences: Sequence[str], *, source: str = "") -> TokenIdentity | None:
        """Return the owner of a token that is valid for one of the audiences, or without any for the API server."""

    async def review_access(self, identity: TokenIdentity, verb: str, path: str, *, source: str = "") -> bool:
        """Return whether an owner may use a path that is no resource."""


class Certifier(Protocol):
    """Recognizes the mesh's own callers, as `ApiCertifier` does."""

    def is_controller(self, certificate: Mapping[str, Any]) -> bool: ...  # noqa: D102

    def find_node(self, certificate: Mapping[str, Any]) -> str | None: ...  # noqa: D102

    async def find_token_node(self, identity: TokenIdentity) -> str | None: ...  # noqa: D102

    def is_revoked(self, node: str) -> bool: ...  # noqa: D102


class _RefusedError(Exception):
    """A request is refused. `reason` is a label of the metric."""

    def __init__(self, status: int, reason: str, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.reason = reason


class Authentication:
    """Checks requests. `open_paths` need no proof; neither does what is read in clear with `is_clear_open`."""

    __slots__ = ("_accepted", "_certifier", "_is_clear_open", "_open_paths", "_reviews", "_tokens", "refusals")

    def __init__(
        self,
        *,
        tokens: BearerTokens | None = None,
        certifier: Certifier | None = None,
        reviews: Reviewer | None = None,
        open_paths: Collection[str] = (),
        is_clear_open: bool = False,
        refusals: RefusalLog | None = None,
    ) -> None:
        self._accepted: dict[bytes, None] = {}
        self._tokens = tokens
        self._certifier = certifier
        self._reviews = reviews
        self._open_paths = PROBE_PATHS | frozenset(open_paths)
        self._is_clear_open = is_clear_open
        self.refusals = refusals or RefusalLog()

    def __repr__(self) -> str:
        return f"<Authentication {self._tokens!r} {self.refusals!r}>"

    async def check(self, request: Request, path: str, node: str | None = None) -> Caller | Refusal:
        """Check a request for a path. `node` is the name under which a pull asks to be recorded."""
        if self._is_clear_open and not request.is_encrypted and request.method in _READING:
            return ANYONE
        if path in self._open_paths and request.method in _READING and node is None:
            return ANYONE
        try:
            return await self._find_caller(request, path, node)
        except _RefusedError as error:
            self.refusals.note(request.remote, error.reason, f"{error.status} {error}")
            return Refusal(error.status, str(error))

    def collect_metrics(self) -> list[MetricFamily]:
        """Return the counts of refusals."""
        return [
            MetricFamily(
                name="maesh_controller_api_refusals_total",
                type="counter",
                help="Requests to the API that were refused because of who sent them.",
                labels=("reason",),
                samples=self.refusals.list_counts(),
            )
        ]

    async def _find_caller(self, request: Request, path: str, node: str | None) -> Caller:
        if self._is_clear_open and not request.is_encrypted:
            raise _RefusedError(HTTPStatus.FORBIDDEN, "clear", "nothing is changed by a request without TLS")
        caller = self._find_certified(request.certificate)
        if caller is None:
            token = _read_token(request)
            name = self._tokens.find_name(token) if self._tokens is not None else None
            if name is None:
                return await self._review(token, request, path, node)
            is_node = name.startswith(NODE_PREFIX)
            caller = self._admit_node(name.removeprefix(NODE_PREFIX)) if is_node else Caller("person", name)
        if caller.kind != "person":
            _check_own(caller, request, path, node)
        return caller

    def _admit_node(self, name: str) -> Caller:
        """Return the caller that a token has proven to be a node, unless the node is revoked."""
        if self._certifier is not None and self._certifier.is_revoked(name):
            raise _RefusedError(HTTPStatus.FORBIDDEN, "revoked", "the node is revoked")
        return Caller("node", name)

    def _find_certified(self, certificate: Mapping[str, Any] | None) -> Caller | None:
        if certificate is None or self._certifier is None:
            return None
        name = self._certifier.find_node(certificate)
        if name is not None:
            return Caller("node", name)
        if self._certifier.is_controller(certificate):
            return Caller("controller")
        text = "the client's certificate has expired or is revoked, or is not that of a node or controller"
        raise _RefusedError(HTTPStatus.UNAUTHORIZED, "certificate", text)

    async def _review(self, token: str, request: Request, path: str, node: str | None) -> Caller:
        """Find the owner of a token that the cluster knows, and whether the owner may use the path."""
        if self._reviews is None:
            raise _RefusedError(HTTPStatus.UNAUTHORIZED, "token", "the token is not valid")
        digest = hashlib.sha256(token.encode("latin-1", "replace")).digest()
        limit = LOOPBACK_BAD_TOKENS_LIMIT if request.remote.startswith(LOOPBACK) else BAD_TOKENS_LIMIT
        if digest not in self._accepted and self.refusals.count_bad_tokens(request.remote) >= limit:
            raise _RefusedError(HTTPStatus.TOO_MANY_REQUESTS, "busy", "too many invalid tokens; try again in a minute")
        audiences = (AUDIENCE,) if AUDIENCE in find_audiences(token) else ()
        try:
            identity = await self._reviews.review_token(token, audiences, source=request.remote)
            self._note_review(digest, is_accepted=identity is not None)
            if identity is None:
                self.refusals.note_bad_token(request.remote)
                text = f"the cluster does not accept the token; it must be valid now, for the audience {AUDIENCE}"
                raise _RefusedError(HTTPStatus.UNAUTHORIZED, "token", text)
            if audiences and self._certifier is not None:
                own = await self._certifier.find_token_node(identity)
                if own is not None:
                    caller = self._admit_node(own)
                    _check_own(caller, request, path, node)
                    return caller
            return await self._check_person(identity, request, path, node)
        except KubernetesError as error:
            text = "the cluster cannot check the token at the moment"
            raise _RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", text) from error

    def _note_review(self, digest: bytes, *, is_accepted: bool) -> None:
        self._accepted.pop(digest, None)
        if is_accepted:
            self._accepted[digest] = None
        if len(self._accepted) > ACCEPTED_LIMIT:
            del self._accepted[next(iter(self._accepted))]

    async def _check_person(self, identity: TokenIdentity, request: Request, path: str, node: str | None) -> Caller:
        assert self._reviews is not None  # noqa: S101 - for the type checker
        if node is not None:
            raise _RefusedError(HTTPStatus.FORBIDDEN, "node", "only a node's own proxy may pull under its name")
        verb = "get" if request.method in _READING else request.method.decode("latin-1").lower()
        asked = ACCESS_PREFIX + path
        if not await self._reviews.review_access(identity, verb, asked, source=request.remote):
            text = f"this account may not {verb} this path; a ClusterRole with nonResourceURLs allows it"
            text += f", with {ACCESS_PREFIX} before the path"
            raise _RefusedError(HTTPStatus.FORBIDDEN, "forbidden", text)
        return Caller("person", identity.username)


def _read_token(request: Request) -> str:
    text = read_field(request.fields, b"authorization")
    if text[: len(_SCHEME)].lower() != _SCHEME or not text[len(_SCHEME) :].strip():
        raise _RefusedError(HTTPStatus.UNAUTHORIZED, "missing", "this needs a valid token: Authorization: Bearer TOKEN")
    return text[len(_SCHEME) :].strip()


def _check_own(caller: Caller, request: Request, path: str, node: str | None) -> None:
    """Check that a node or a controller does no more than it must."""
    allowed = PULL_PATH if caller.kind == "node" else REPORTS_PATH
    if path != allowed or request.method not in _READING:
        raise _RefusedError(HTTPStatus.FORBIDDEN, "forbidden", f"a {caller.kind} may only get {allowed}")
    if caller.kind == "node" and node not in (None, caller.name):
        text = "a node may only pull under its own name; is --node of the proxy the node's name?"
        raise _RefusedError(HTTPStatus.FORBIDDEN, "node", text)


def find_audiences(token: str) -> Sequence[str]:
    """Read the audiences that a token claims (RFC 7519 section 4.1.3); none if it is no readable JWT.

    Nothing is verified: this only decides which question the API server is asked.
    """
    parts = token.split(".")
    if len(parts) != 3:
        return ()
    try:
        claims = msgspec.json.decode(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, binascii.Error, msgspec.DecodeError, RecursionError):
        return ()
    found = claims.get("aud") if isinstance(claims, dict) else None
    listed = found if isinstance(found, list) else [found]
    return [each for each in listed if isinstance(each, str)]
