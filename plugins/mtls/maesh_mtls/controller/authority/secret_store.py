"""The authority in a Secret of the cluster, as cert-manager writes it. Implements AuthorityStore.

The rotation's state is an annotation. Every change states the resource version that it is based on, and the API server
refuses it with a conflict if there is another one. What others have added to the Secret stays.
"""

import base64
import binascii
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, Final

import msgspec

from maesh_core.plugin import ClusterApi, KubernetesError, ObjectKey, Resource, ResourceKind
from maesh_mtls.controller.authority.stores import (
    CERTIFICATE,
    FILES,
    KEY,
    StoreConflictError,
    Stored,
    StoreError,
    StoreReadOnlyError,
)

ROTATION: Final = "maesh.io/rotation"
LABELS: Final = {"app.kubernetes.io/part-of": "maesh"}
TIMEOUT_S: Final = 5.0
_CONFLICT = 409
_FORBIDDEN = 403
_NOT_FOUND = 404

_log = logging.getLogger(__name__)


class Secret(Resource, frozen=True):
    """v1 Secret; the values of `data` are base64."""

    data: dict[str, str] = msgspec.field(default_factory=dict)


SECRETS = ResourceKind(name="Secret", plural="secrets", api_versions=("v1",), type=Secret)


class SecretStore:
    """The authority in one Secret. `report` gets what keeps it from being watched, and None when that is over."""

    __slots__ = ("_api", "_key", "_problem", "_report")

    def __init__(self, api: ClusterApi, key: ObjectKey, *, report: Callable[[str | None], None]) -> None:
        self._api = api
        self._key = key
        self._report = report
        self._problem: str | None = None

    def __repr__(self) -> str:
        return f"<SecretStore {self._key}>"

    @property
    def place(self) -> str:
        """Name the Secret."""
        return f"Secret {self._key.namespace}/{self._key.name}"

    async def load(self) -> Stored:
        """Read the Secret. Raises StoreError."""
        found = await self._read()
        try:
            return Stored() if found is None else _parse(msgspec.convert(found, Secret))
        except ValueError as error:
            raise StoreError(f"{self.place}: {error}") from error

    async def write(self, files: Mapping[str, bytes | None], rotation: str, *, version: str) -> str:
        """Change the named files, unless the Secret has another version. Raises StoreError."""
        if unknown := set(files) - set(FILES):
            raise StoreError(f"{self.place}: {', '.join(sorted(unknown))} is no file of the authority")
        if not version:
            return await self._create(files, rotation)
        found = await self._read()
        if found is None or found["metadata"].get("resourceVersion") != version:
            raise StoreConflictError(f"{self.place} has been changed meanwhile")
        data = {**(found.get("data") or {}), **_encode(files)}
        annotations = {**(found["metadata"].get("annotations") or {}), ROTATION: rotation}
        found["data"] = {name: text for name, text in data.items() if files.get(name, b"") is not None}
        found["metadata"]["annotations"] = {name: text for name, text in annotations.items() if text}
        return await self._send("PUT", self._path, found)

    async def watch(self) -> AsyncGenerator[Stored, None]:
        """Yield the content now and after each change, forever."""
        changes = self._api.watch_object(SECRETS, self._key, report=self._note)
        try:
            async for found in changes:
                if found is None:
                    yield Stored()
                elif isinstance(found, Secret):
                    try:
                        stored = _parse(found)
                    except ValueError as error:
                        self._note(str(error))
                        continue
                    self._note(None)
                    yield stored
        finally:
            if isinstance(changes, AsyncGenerator):
                await changes.aclose()

    def _note(self, problem: str | None) -> None:
        if problem == self._problem:
            return
        self._problem = problem
        if problem is None:
            _log.warning("%s can be followed again", self.place)
        else:
            _log.error("%s cannot be followed: %s", self.place, problem)
        self._report(None if problem is None else f"{self.place}: {problem}")

    async def _create(self, files: Mapping[str, bytes | None], rotation: str) -> str:
        has_pair = files.get(CERTIFICATE) is not None and files.get(KEY) is not None
        metadata: dict[str, Any] = {"name": self._key.name, "namespace": self._key.namespace, "labels": LABELS}
        if rotation:
            metadata["annotations"] = {ROTATION: rotation}
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": metadata,
            "type": "kubernetes.io/tls" if has_pair else "Opaque",
            "data": _encode(files),
        }
        return await self._send("POST", f"/api/v1/namespaces/{self._key.namespace}/secrets", secret)

    @property
    def _path(self) -> str:
        return f"/api/v1/namespaces/{self._key.namespace}/secrets/{self._key.name}"

    async def _read(self) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = msgspec.json.decode(await self._api.send("GET", self._path, timeout_s=TIMEOUT_S))
            msgspec.convert(found, Secret)
        except KubernetesError as error:
            if error.status == _NOT_FOUND:
                return None
            raise StoreError(str(error)) from error
        except msgspec.MsgspecError:
            raise StoreError(f"{self.place}: the API server's answer is no Secret") from None
        return found

    async def _send(self, method: str, path: str, secret: Mapping[str, Any]) -> str:
        """Send the Secret, and return its new version. Errors only name the status: their text may repeat a value."""
        try:
            answer = msgspec.json.decode(await self._api.send(method, path, secret, timeout_s=TIMEOUT_S), type=Secret)
        except KubernetesError as error:
            if error.status == _CONFLICT:
                raise StoreConflictError(f"{self.place} has been changed meanwhile") from None
            if error.status == _FORBIDDEN and method == "PUT":
                raise StoreReadOnlyError(f"{self.place} may not be changed by this controller") from None
            text = f"{method} {path}: {error.status} {error.reason}" if error.status else str(error)
            raise StoreError(text) from None
        except msgspec.MsgspecError:
            raise StoreError(f"{self.place}: the API server's answer is no Secret") from None
        return answer.metadata.resource_version


def _parse(secret: Secret) -> Stored:
    """Decode the files. Raises ValueError with a reason."""
    files = {}
    for name in FILES:
        if text := secret.data.get(name, ""):  # cert-manager writes an empty ca.crt if it has none
            try:
                files[name] = base64.b64decode(text, validate=True)
            except binascii.Error:
                raise ValueError(f"{name} is not base64") from None
    rotation = secret.metadata.annotations.get(ROTATION, "")
    return Stored(files=files, rotation=rotation, version=secret.metadata.resource_version)


def _encode(files: Mapping[str, bytes | None]) -> dict[str, str]:
    return {name: base64.b64encode(content).decode() for name, content in files.items() if content is not None}
