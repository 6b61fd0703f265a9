"""Asks the API server whose token something is, and what its owner may do: TokenReview and SubjectAccessReview.

Takes tokens and identities; returns answers, cached for ten seconds, or raises KubernetesError if there is none, so
that callers refuse. Tokens are kept only as hashes, and neither they nor texts of the server get into errors. The
number of reviews is limited, also for each source of requests. The controller needs the permission to create both kinds
of objects, which the ClusterRole `system:auth-delegator` has.
"""

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, Generic, Protocol, TypeVar

import msgspec

from maesh_core.controller.kubernetes.paths import build_path
from maesh_core.errors import KubernetesError
from maesh_core.model.token_identity import TokenIdentity as TokenIdentity

CACHE_S: Final = 10.0
CACHE_LIMIT: Final = 4096
"""Answers of each kind that are kept."""
IN_FLIGHT_LIMIT: Final = 16
"""Requests to the API server at the same time."""
WAITING_LIMIT: Final = 256
WAITING_LIMIT_PER_SOURCE: Final = 16
"""Reviews that are sent or wait to be sent, in all and for one source."""
TIMEOUT_S: Final = 5.0
"""Time-out of a review, with the time that it waits to be sent."""
LONGEST_TOKEN: Final = 16 * 1024
"""Characters of a token; the projected ones have about 1,200."""
LONGEST_PATH: Final = 2048

ValueT = TypeVar("ValueT")


class Client(Protocol):
    """The methods used of a client of the API server."""

    async def send(self, method: str, path: str, body: Any = None, *, timeout_s: float) -> bytes:
        """Send a request; raises KubernetesError."""


class _User(msgspec.Struct, frozen=True):
    username: str = ""
    uid: str = ""
    groups: tuple[str, ...] | None = None
    extra: dict[str, tuple[str, ...] | None] | None = None


class _TokenStatus(msgspec.Struct, frozen=True):
    authenticated: bool = False
    user: _User = _User()
    audiences: tuple[str, ...] | None = None


class _TokenReview(msgspec.Struct, frozen=True):
    status: _TokenStatus


class _AccessStatus(msgspec.Struct, frozen=True):
    allowed: bool = False
    denied: bool = False


class _AccessReview(msgspec.Struct, frozen=True):
    status: _AccessStatus


class ReviewClient:
    """Sends reviews to one API server."""

    __slots__ = ("_access", "_client", "_in_flight", "_tasks", "_tokens", "_waiting")

    def __init__(self, client: Client, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._tokens: _Cache[TokenIdentity | None] = _Cache(clock)
        self._access: _Cache[bool] = _Cache(clock)
        self._tasks: dict[bytes, asyncio.Task[Any]] = {}
        self._waiting: Counter[str] = Counter()
        self._in_flight = asyncio.Semaphore(IN_FLIGHT_LIMIT)

    def __repr__(self) -> str:
        return f"<ReviewClient {len(self._tasks)} under way>"

    async def review_token(self, token: str, audiences: Sequence[str], *, source: str = "") -> TokenIdentity | None:
        """Return the owner of a token that is valid for one of the audiences; None if it is not.

        Without audiences, the token must be one for the API server itself.

        `source` is whatever sends tokens, such as an address. Raises KubernetesError if the token cannot be checked.
        """
        if not 0 < len(token) <= LONGEST_TOKEN or not token.isascii() or not token.isprintable():
            return None
        key = _hash("token", token, *audiences)
        return await self._review(self._tokens, key, lambda: self._ask_owner(token, audiences), source)

    async def review_access(self, identity: TokenIdentity, verb: str, path: str, *, source: str = "") -> bool:
        """Return whether an owner may use a path that is no resource, such as `get` for `/metrics`.

        Raises KubernetesError if that cannot be checked.
        """
        if len(path) > LONGEST_PATH:
            return False
        key = _hash("access", msgspec.json.encode(identity, order="deterministic").decode(), verb, path)
        return await self._review(self._access, key, lambda: self._ask_access(identity, verb, path), source)

    async def close(self) -> None:
        """End all reviews."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _review(
        self, cache: "_Cache[ValueT]", key: bytes, ask: Callable[[], Awaitable[ValueT]], source: str
    ) -> ValueT:
        found = cache.find(key)
        if found:
            return found[0]
        task = self._tasks.get(key)
        if task is None:
            if len(self._tasks) >= WAITING_LIMIT or self._waiting[source] >= WAITING_LIMIT_PER_SOURCE:
                raise KubernetesError("too many reviews are under way")
            task = self._start(key, self._run(cache, key, ask), source)
        result: ValueT = await asyncio.shield(task)  # others may wait for it, too
        return result

    def _start(self, key: bytes, review: Coroutine[Any, Any, Any], source: str) -> "asyncio.Task[Any]":
        task = self._tasks[key] = asyncio.create_task(review)
        self._waiting[source] += 1

        def end(ended: "asyncio.Task[Any]") -> None:
            del self._tasks[key]
            self._waiting[source] -= 1
            if not self._waiting[source]:
                del self._waiting[source]
            if not ended.cancelled():
                ended.exception()  # the waiting request may have ended

        task.add_done_callback(end)
        return task

    async def _run(self, cache: "_Cache[ValueT]", key: bytes, ask: Callable[[], Awaitable[ValueT]]) -> ValueT:
        try:
            async with asyncio.timeout(TIMEOUT_S), self._in_flight:
                answer = await ask()
        except TimeoutError:
            raise KubernetesError("the review was not answered in time") from None
        cache.keep(key, answer)
        return answer

    async def _ask_owner(self, token: str, audiences: Sequence[str]) -> TokenIdentity | None:
        spec = {"token": token, "audiences": list(audiences)}
        status = (await self._send("authentication.k8s.io/v1", "TokenReview", spec, _TokenReview)).status
        # a server that knows no audiences returns none, and the token is then one for the API server itself
        valid = tuple(each for each in status.audiences or () if each in audiences or not audiences)
        if not status.authenticated or not status.user.username or not (valid or not audiences):
            return None
        user = status.user
        extra = {name: values or () for name, values in (user.extra or {}).items()}
        return TokenIdentity(
            username=user.username, uid=user.uid, groups=user.groups or (), extra=extra, audiences=valid
        )

    async def _ask_access(self, identity: TokenIdentity, verb: str, path: str) -> bool:
        spec = {
            "user": identity.username,
            "uid": identity.uid,
            "groups": list(identity.groups),
            "extra": {name: list(values) for name, values in identity.extra.items()},
            "nonResourceAttributes": {"verb": verb, "path": path},
        }
        status = (await self._send("authorization.k8s.io/v1", "SubjectAccessReview", spec, _AccessReview)).status
        return status.allowed and not status.denied

    async def _send(self, api_version: str, kind: str, spec: Any, type_: type[ValueT]) -> ValueT:
        path = build_path(api_version, f"{kind.lower()}s")
        body = {"apiVersion": api_version, "kind": kind, "spec": spec}
        try:
            answer = await self._client.send("POST", path, body, timeout_s=TIMEOUT_S)
            return msgspec.json.decode(answer, type=type_)
        except KubernetesError as error:
            if not error.status:
                raise
            # the server's text can repeat what was sent
            text = f"POST {path}: {error.status} {error.reason}"
            raise KubernetesError(text, status=error.status, reason=error.reason) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise KubernetesError(f"POST {path}: the answer is malformed") from None


class _Cache(Generic[ValueT]):
    """Answers by key, the oldest first."""

    __slots__ = ("_clock", "_entries")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._entries: dict[bytes, tuple[float, ValueT]] = {}

    def find(self, key: bytes) -> tuple[ValueT] | None:
        """Return a recent answer; None if there is none."""
        entry = self._entries.get(key)
        return (entry[1],) if entry is not None and entry[0] > self._clock() else None

    def keep(self, key: bytes, value: ValueT) -> None:
        """Keep an answer. Old ones are forgotten, and the oldest ones if there are too many."""
        now = self._clock()
        self._entries.pop(key, None)
        for old, (until, _) in list(self._entries.items()):
            if until > now and len(self._entries) < CACHE_LIMIT:
                break
            del self._entries[old]
        self._entries[key] = (now + CACHE_S, value)


def _hash(*parts: str) -> bytes:
    return hashlib.sha256(msgspec.json.encode(parts)).digest()
