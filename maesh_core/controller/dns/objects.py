"""Objects of the API server as they come, read and written one at a time, with patience while the server is away.

Takes resources and names, gives decoded JSON, or raises KubernetesError. A write holds the version that it is based on:
where another was quicker, it is made again on the fresh object. Must not know what is written, or why.
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
"""For how long a request is made again while the API server is away."""
REQUEST_LIMIT_S = 10.0
CONFLICT_LIMIT = 10
"""A write that others forestall so often in a row has failed."""

Object = dict[str, Any]
Edit = Callable[[Object | None], Object | None]
"""Gives an object as it should be, None for none; is called again with the fresh object after a conflict. Pure."""
Pause = Callable[[float], Awaitable[None]]


class Resource(msgspec.Struct, frozen=True):
    """A kind of object, as its path and its documents name it."""

    api_version: str
    plural: str
    kind: str


CONFIG_MAPS = Resource("v1", "configmaps", "ConfigMap")
SERVICES = Resource("v1", "services", "Service")
DEPLOYMENTS = Resource("apps/v1", "deployments", "Deployment")
DAEMON_SETS = Resource("apps/v1", "daemonsets", "DaemonSet")


class ObjectStore:
    """Reads and writes objects through a client. `pause` and `clock` are those of the process, but for tests."""

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
        """Read an object; None where there is none."""
        try:
            body = await self._send("GET", _build_path(resource, key))
        except KubernetesError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise
        return _name_kind(_parse_object(body), resource)

    async def list(self, resource: Resource, namespace: str, *, selector: str = "") -> list[Object]:
        """List a namespace's objects, all or those with labels."""
        query = {"labelSelector": selector} if selector else None
        found = _parse_object(await self._send("GET", _build_path(resource, ObjectKey(namespace, "")), query=query))
        items = [item for item in found.get("items") or () if isinstance(item, dict)]
        return [_name_kind(item, resource) for item in items]

    async def write(self, resource: Resource, key: ObjectKey, *, before: Object | None, edit: Edit) -> bool:
        """Make an object what `edit` makes of it; gives whether it wrote. `before` is what was last read."""
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
        raise KubernetesError(f"{resource.kind} {key.namespace}/{key.name}: others change it all the time")

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
        """Send a request, again and again while the server is away, until the patience is at its end.

        A request whose answer was lost may have been carried out: then the next ends with a conflict or a 404.
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
        return False  # whoever answers is not who was meant, and no patience makes it so
    return error.status in (0, HTTPStatus.TOO_MANY_REQUESTS) or error.status >= HTTPStatus.INTERNAL_SERVER_ERROR


def _build_path(resource: Resource, key: ObjectKey) -> str:
    return build_path(resource.api_version, resource.plural, namespace=key.namespace, name=key.name)


def _parse_object(body: bytes) -> Object:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise KubernetesError(f"the API server answered with what is no object: {error}") from error


def _name_kind(found: Object, resource: Resource) -> Object:
    """Say of an object what it is: in lists they do not."""
    return {"apiVersion": resource.api_version, "kind": resource.kind, **found}
