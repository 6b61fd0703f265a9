"""Writes the shadow services: brings those in the API server to the desired state.

Takes an engine, which knows the desired and the current objects, and a client. It writes only while this controller
leads, and only Services that are labelled as this mesh's. Every write names the resource version that the watch
delivered. If somebody else was faster, the API server refuses it, and it is repeated after the watch has delivered that
change, so no decision is based on outdated objects. After a crash, either the old object or the new one exists, and the
next leader continues from there. Of the mesh's accounts, the controller's may create, update and delete Services,
and that of `maesh cleanup` may delete them (charts/maesh/templates/_rules.tpl).
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol

import msgspec

from maesh_core.controller.cluster.shadow_services import (
    DISTRIBUTIONS,
    DesiredShadowService,
    UndecidedShadowError,
    build_object,
    is_up_to_date,
    merge_object,
    must_recreate,
)
from maesh_core.controller.cluster.work_queue import Leadership, WorkQueue
from maesh_core.controller.kubernetes.paths import build_path
from maesh_core.errors import KubernetesError
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import Service
from maesh_core.model.shadow_names import build_name, find_original

WRITERS = 8
"""Concurrent writes: 10,000 services are written within half a minute, and the API server is not overloaded."""
WRITE_TIMEOUT_S = 5.0
LONGEST_PAUSE_S = 30.0
"""Longest pause before a refused write is repeated; a change is handled at once."""
CONFLICT_LIMIT = 5
"""Number of consecutive conflicts that are not reported, because the watch is a little behind."""

_CONFLICT = 409
_GONE = 404
_OPERATIONS = {"POST": "create", "PUT": "update", "DELETE": "delete"}
_log = logging.getLogger(__name__)


class Client(Protocol):
    """The methods used of a client of the API server."""

    async def send(self, method: str, path: str, body: Any = None, *, timeout_s: float) -> bytes:
        """Send a request; raises KubernetesError."""


class ShadowSource(Protocol):
    """The methods used of the engine."""

    def find_desired_shadow(self, key: ObjectKey) -> DesiredShadowService | None:
        """Compute the desired shadow service, or None for none; raises UndecidedShadowError."""

    def find_service(self, key: ObjectKey) -> Service | None: ...  # noqa: D102

    def set_outside_errors(self, key: ObjectKey, errors: tuple[str, ...]) -> None: ...  # noqa: D102


class ShadowKeeper:
    """Writes the shadow services of marked services. `mark` may be called at any time, `run` in one task."""

    def __init__(
        self,
        client: Client,
        engine: ShadowSource,
        leadership: Leadership,
        *,
        mesh_namespace: str,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._client = client
        self._engine = engine
        self._mesh_namespace = mesh_namespace
        self._queue = WorkQueue(
            self._process, leadership, writers=WRITERS, longest_pause_s=LONGEST_PAUSE_S, pause=pause
        )
        self._conflicts: dict[ObjectKey, int] = {}
        self._failures: dict[ObjectKey, str] = {}
        self._distribution = 0
        self.writes: Counter[tuple[str, ...]] = Counter()
        """Requests that wrote a shadow service, by operation and result."""

    def __repr__(self) -> str:
        return f"<ShadowKeeper {self._queue!r} failing={len(self._failures)}>"

    @property
    def failing(self) -> int:
        """The number of services whose shadow service has an error."""
        return len(self._failures)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is marked, running, or waiting to be repeated."""
        return self._queue.is_idle

    def mark(self, keys: Iterable[ObjectKey]) -> None:
        """Schedule a check of the shadow services of these services."""
        self._queue.mark(keys)

    def forget(self) -> None:
        """Drop all marks and withdraw all errors: another controller leads now, and checks everything."""
        self._queue.forget()
        self._conflicts.clear()
        for key in tuple(self._failures):
            self._report(key, "")

    async def run(self) -> None:
        """Check what is marked, forever; while this controller does not lead, marks are dropped."""
        await self._queue.run()

    async def _process(self, key: ObjectKey) -> None:
        try:
            error = await self.reconcile(key)
        except KubernetesError as failure:
            if self._queue.is_leading:
                self._count_conflict(key, is_one=failure.status in (_CONFLICT, _GONE))
                if not 0 < self._conflicts.get(key, 0) <= CONFLICT_LIMIT:
                    self._report(key, f"its shadow service cannot be written: {failure}")
                self._queue.retry(key, failure.retry_after_s)
            return
        self._conflicts.pop(key, None)
        if not error and key in self._failures:
            _log.warning("service %s: no longer: %s", key, self._failures[key])
        self._report(key, error)
        if error:
            self._queue.retry(key)
        else:
            self._queue.note_success(key)

    def _count_conflict(self, key: ObjectKey, *, is_one: bool) -> None:
        if is_one:
            self._conflicts[key] = self._conflicts.get(key, 0) + 1
        else:
            self._conflicts.pop(key, None)

    def _report(self, key: ObjectKey, error: str) -> None:
        if error and self._failures.get(key) != error:
            _log.warning("service %s: %s", key, error)
        if error:
            self._failures[key] = error
        else:
            self._failures.pop(key, None)
        self._engine.set_outside_errors(key, (error,) if error else ())

    async def reconcile(self, key: ObjectKey) -> str:
        """Bring one shadow service to its desired state; return the error that prevents it, or an empty text.

        Raises KubernetesError, and NotLeadingError.
        """
        try:
            desired = self._engine.find_desired_shadow(key)
        except UndecidedShadowError:
            return ""
        shadow_key = ObjectKey(self._mesh_namespace, build_name(self._mesh_namespace, key))
        current = self._engine.find_service(shadow_key)
        if current is None:
            if desired is not None:
                await self._write("POST", "", build_object(desired, self._mesh_namespace, self._desired_distribution))
        elif find_original(current, self._mesh_namespace) != key:
            if desired is not None:
                return f"Service {shadow_key} has the name of its shadow service, but is not this mesh's"
        elif desired is None or must_recreate(current, desired):
            await self._delete(current)  # the watch reports the deletion; then it is created again, if desired
        elif not is_up_to_date(current, desired, self._desired_distribution):
            await self._update(key, shadow_key)
        return ""

    @property
    def _desired_distribution(self) -> str | None:
        return DISTRIBUTIONS[self._distribution]

    async def _update(self, key: ObjectKey, shadow_key: ObjectKey) -> None:
        """Change a shadow service, and keep what others added to it."""
        raw = await self._read(shadow_key.name)
        try:
            desired, current = self._engine.find_desired_shadow(key), self._engine.find_service(shadow_key)
        except UndecidedShadowError:
            return
        if desired is None or current is None or raw["metadata"].get("resourceVersion") != _get_version(current):
            raise KubernetesError("it has changed meanwhile", status=_CONFLICT)
        document = build_object(desired, self._mesh_namespace, self._desired_distribution)
        await self._write("PUT", shadow_key.name, merge_object(raw, document))

    async def _read(self, name: str) -> dict[str, Any]:
        try:
            return msgspec.json.decode(await self._send("GET", name), type=dict[str, Any])
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise KubernetesError(f"the existing object is not a Service: {error}") from error

    async def _delete(self, current: Service) -> None:
        preconditions = {"uid": current.metadata.uid, "resourceVersion": _get_version(current)}
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions}
        try:
            await self._send("DELETE", current.metadata.name, body)
        except KubernetesError as error:
            if error.status != _GONE:
                raise

    async def _write(self, method: str, name: str, body: dict[str, Any]) -> None:
        """Write a Service; if the server does not support the traffic distribution, use the next best one."""
        while True:
            distribution = body["spec"].get("trafficDistribution")
            try:
                written = _parse_service(await self._send(method, name, body))
            except KubernetesError as error:
                if error.status != 422 or distribution is None or "trafficDistribution" not in str(error):
                    raise
                self._settle_distribution(DISTRIBUTIONS.index(distribution) + 1)
                body = {**body, "spec": {**body["spec"], "trafficDistribution": self._desired_distribution}}
                if self._desired_distribution is None:
                    del body["spec"]["trafficDistribution"]
                continue
            if distribution is not None and written.spec.traffic_distribution != distribution:
                self._settle_distribution(len(DISTRIBUTIONS) - 1)  # an older server drops unknown fields
            return

    def _settle_distribution(self, place: int) -> None:
        if place > self._distribution:
            self._distribution = place
            _log.info("shadow services use trafficDistribution %s", self._desired_distribution)

    async def _send(self, method: str, name: str, body: Any = None) -> bytes:
        timeout_s = self._queue.limit_request_s(WRITE_TIMEOUT_S)
        path = build_path("v1", "services", namespace=self._mesh_namespace, name=name)
        operation = _OPERATIONS.get(method)
        try:
            answer = await self._client.send(method, path, body, timeout_s=timeout_s)
        except KubernetesError:
            if operation is not None:
                self.writes[operation, "failed"] += 1
            raise
        if operation is not None:
            self.writes[operation, "written"] += 1
        return answer


def _get_version(service: Service) -> str:
    return service.metadata.resource_version


def _parse_service(body: bytes) -> Service:
    try:
        return msgspec.json.decode(body, type=Service)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise KubernetesError(f"the response is not a Service: {error}") from error
