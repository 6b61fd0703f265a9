"""Reads and writes single objects of the API server, with retries while the server is unavailable.

Takes resources and names; returns decoded JSON, or raises KubernetesError. A write names the version that it is based
on; after a conflict it is repeated with the current object. Must not know what is written, or why.
"""

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

import msgspec

from maesh_core.controller.kubernetes.client import KubernetesClient
from maesh_core.controller.kubernetes.paths import build_path
from maesh_core.errors import KubernetesError
from maesh_core.model.keys import ObjectKey
from maesh_core.process.backoff import Backoff

PATIENCE_S = 30.0
"""How long a request is repeated while the API server is unavailable."""
REQUEST_LIMIT_S = 10.0
CONFLICT_LIMIT = 10
"""Number of consecutive conflicts after which a write has failed."""

Object = dict[str, Any]
Edit = Callable[[Object | None], Object | None]
"""Returns the desired object, None for none; called again with the current object after a conflict. Pure."""
Pause = Callable[[float], Awaitable[None]]


class Resource(msgspec.Struct, frozen=True):
    """A kind of object, by the names in its path and in its documents."""

    api_version: str
    plural: str
    kind: str


CONFIG_MAPS = Resource("v1", "configmaps", "ConfigMap")
SERVICES = Resource("v1", "services", "Service")
DEPLOYMENTS = Resource("apps/v1", "deployments", "Deployment")
DAEMON_SETS = Resource("apps/v1", "daemonsets", "DaemonSet")


class ObjectStore:
    """Reads and writes objects through a client. Tests pass their own `pause` and `clock`."""

    __slots__ = ("_client", "_clock", "_patience_s", "_pause")

    def __init__(
        self,
        client: KubernetesClient,
        *,
        patience_s: float = PATIENCE_S,
        pause: Pause = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._patience_s = patience_s
        self._pause = pause
        self._clock = clock

    def __repr__(self) -> str:
        return f"<ObjectStore {self._client!r}>"

    async def read(self, resource: Resource, key: ObjectKey) -> Object | None:
        """Read an object; None if it does not exist."""
        try:
            body = await self._send("GET", _build_path(resource, key))
        except KubernetesError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise
        return _name_kind(_parse_object(body), resource)

    async def list(self, resource: Resource, namespace: str, *, selector: str = "") -> list[Object]:
        """List a namespace's objects, all or those with given labels."""
        query = {"labelSelector": selector} if selector else None
        found = _parse_object(await self._send("GET", _build_path(resource, ObjectKey(namespace, "")), query=query))
        items = [item for item in found.get("items") or () if isinstance(item, dict)]
        return [_name_kind(item, resource) for item in items]

    async def write(self, resource: Resource, key: ObjectKey, *, before: Object | None, edit: Edit) -> bool:
        """Apply `edit` to an object; return whether anything was written. `before` is the object as last read."""
        for _ in range(CONFLICT_LIMIT):
            after = edit(before)
            if after == before:
                return False
            try:
                await self._write_once(resource, key, before, after)
            except KubernetesError as error:
                is_gone = error.status == HTTPStatus.NOT_FOUND and before is not None
                if error.status != HTTPStatus.CONFLICT and not is_gone:
                    raise
                before = await self.read(resource, key)
            else:
                return True
        raise KubernetesError(f"{resource.kind} {key.namespace}/{key.name}: it changes too often to be written")

    async def _write_once(
        self, resource: Resource, key: ObjectKey, before: Object | None, after: Object | None
    ) -> None:
        if after is None:
            version = (before or {}).get("metadata", {}).get("resourceVersion")
            await self._send("DELETE", _build_path(resource, key), {"preconditions": {"resourceVersion": version}})
        elif before is None:
            await self._send("POST", _build_path(resource, ObjectKey(key.namespace, "")), after)
        else:
            await self._send("PUT", _build_path(resource, key), after)

    async def _send(
        self, method: str, path: str, body: Object | None = None, *, query: Mapping[str, str] | None = None
    ) -> bytes:
        """Send a request; repeat it while the server is unavailable, until the time is over.

        A request whose answer was lost may have been executed: then the next one ends with a conflict or a 404.
        """
        backoff = Backoff()
        give_up_at = self._clock() + self._patience_s
        while True:
            try:
                return await self._client.send(method, path, body, query=query, timeout_s=REQUEST_LIMIT_S)
            except KubernetesError as error:
                pause_s = backoff.next(at_least_s=error.retry_after_s)
                if not _is_away(error) or self._clock() + pause_s > give_up_at:
                    raise
                await self._pause(pause_s)


def _is_away(error: KubernetesError) -> bool:
    if isinstance(error.__cause__, ssl.SSLCertVerificationError):
        return False  # the responder is not the API server, so repeating does not help
    return error.status in (0, HTTPStatus.TOO_MANY_REQUESTS) or error.status >= HTTPStatus.INTERNAL_SERVER_ERROR


def _build_path(resource: Resource, key: ObjectKey) -> str:
    return build_path(resource.api_version, resource.plural, namespace=key.namespace, name=key.name)


def _parse_object(body: bytes) -> Object:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise KubernetesError(f"the API server's answer is not an object: {error}") from error


def _name_kind(found: Object, resource: Resource) -> Object:
    """Add apiVersion and kind, which items of lists lack."""
    return {"apiVersion": resource.api_version, "kind": resource.kind, **found}
