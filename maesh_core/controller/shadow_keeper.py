"""Keeps the shadow services as the users' services want them: the leader's hands on the API server.

Takes an engine, which knows what is wished and what is there, and a client; writes only while this controller leads,
and only Services that say they are this mesh's. Every write is whole by itself: whoever comes after a crash finds
either the old object or the new one, and goes on from there.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol

import msgspec

from maesh_core.controller.shadow_services import (
    DISTRIBUTIONS,
    Wish,
    build_name,
    build_object,
    find_original,
    is_as_wished,
    merge_object,
    must_recreate,
)
from maesh_core.errors import KubernetesError
from maesh_core.kubernetes.backoff import Backoff
from maesh_core.kubernetes.paths import build_path
from maesh_core.model.events import Applied, Deleted, Event
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import Service

WRITERS = 8
"""Writes under way at a time: 10,000 services are written within half a minute, and the API server is not flooded."""
WRITE_TIMEOUT_S = 5.0
LEASE_MARGIN_S = 1.0
"""No write may be under way when the lease ends."""
CONFLICT_LIMIT = 5

_log = logging.getLogger(__name__)


class Client(Protocol):
    """What is needed of a client of the API server."""

    async def send(self, method: str, path: str, body: Any = None, *, timeout_s: float) -> bytes:
        """Send a request; raises KubernetesError."""


class Lead(Protocol):
    """Whether this controller may write."""

    @property
    def remaining_s(self) -> float: ...  # noqa: D102


class Shadowed(Protocol):
    """What is needed of the engine."""

    def find_wish(self, key: ObjectKey) -> Wish | None: ...  # noqa: D102

    def find_service(self, key: ObjectKey) -> Service | None: ...  # noqa: D102

    def observe_shadows(self, events: list[Event]) -> None: ...  # noqa: D102

    def set_outside_errors(self, key: ObjectKey, errors: tuple[str, ...]) -> None: ...  # noqa: D102


class NotLeadingError(Exception):
    """This controller may not write any more."""


class ShadowKeeper:
    """Writes what was marked. `mark` may be called at any time; `run` in one task."""

    def __init__(
        self,
        client: Client,
        engine: Shadowed,
        lead: Lead,
        *,
        mesh_namespace: str,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._client = client
        self._engine = engine
        self._lead = lead
        self._mesh_namespace = mesh_namespace
        self._pause = pause
        self._marked: dict[ObjectKey, None] = {}  # in order
        self._busy: set[ObjectKey] = set()
        self._backoffs: dict[ObjectKey, Backoff] = {}
        self._retries: set[asyncio.Task[None]] = set()
        self._failures: dict[ObjectKey, str] = {}
        self._wake = asyncio.Event()
        self._distribution = 0

    def __repr__(self) -> str:
        return f"<ShadowKeeper marked={len(self._marked)} busy={len(self._busy)} failing={len(self._failures)}>"

    @property
    def is_idle(self) -> bool:
        """Whether nothing is left to do now."""
        return not self._marked and not self._busy and not self._retries

    def mark(self, keys: Iterable[ObjectKey]) -> None:
        """Have the shadow services of these looked at."""
        for key in keys:
            self._marked[key] = None
        self._wake.set()

    async def run(self) -> None:
        """Look at what is marked, forever; while this controller does not lead, what is marked is dropped."""
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(WRITERS):
                    group.create_task(self._work())
        finally:
            for task in self._retries:
                task.cancel()
            await asyncio.gather(*self._retries, return_exceptions=True)

    async def _work(self) -> None:
        while True:
            key = next((key for key in self._marked if key not in self._busy), None)
            if key is None:
                self._wake.clear()
                await self._wake.wait()
                continue
            del self._marked[key]
            if self._lead.remaining_s <= LEASE_MARGIN_S:
                continue  # who leads next looks at everything
            self._busy.add(key)
            try:
                await self._keep(key)
            finally:
                self._busy.discard(key)
                self._wake.set()

    async def _keep(self, key: ObjectKey) -> None:
        try:
            error = await self.reconcile(key)
        except NotLeadingError:
            return
        except KubernetesError as failure:
            self._tell(key, f"its shadow service cannot be written: {failure}")
            pause_s = self._backoffs.setdefault(key, Backoff()).next(at_least_s=failure.retry_after_s)
            retry = asyncio.create_task(self._mark_later(key, pause_s))
            self._retries.add(retry)
            retry.add_done_callback(self._retries.discard)
            return
        self._backoffs.pop(key, None)
        self._tell(key, error)

    async def _mark_later(self, key: ObjectKey, pause_s: float) -> None:
        await self._pause(pause_s)
        self.mark((key,))

    def _tell(self, key: ObjectKey, error: str) -> None:
        if error and self._failures.get(key) != error:
            _log.warning("service %s: %s", key, error)
        if error:
            self._failures[key] = error
        else:
            self._failures.pop(key, None)
        self._engine.set_outside_errors(key, (error,) if error else ())

    async def reconcile(self, key: ObjectKey) -> str:
        """Bring one shadow service into the form that is wished; return what stands in the way, or nothing.

        Raises KubernetesError, and NotLeadingError.
        """
        try:
            wish = self._engine.find_wish(key)
        except KeyError:
            return ""
        shadow_key = ObjectKey(self._mesh_namespace, build_name(self._mesh_namespace, key))
        current = self._engine.find_service(shadow_key)
        if current is None and wish is not None:
            return await self._create(wish, shadow_key)
        if current is None or (wish is not None and is_as_wished(current, wish, self._wished_distribution)):
            return ""
        return await self._replace(key, shadow_key, wish)

    @property
    def _wished_distribution(self) -> str | None:
        return DISTRIBUTIONS[self._distribution]

    async def _create(self, wish: Wish, shadow_key: ObjectKey) -> str:
        body = build_object(wish, self._mesh_namespace, self._wished_distribution)
        try:
            created = await self._write("POST", "", body)
        except KubernetesError as error:
            if error.status == 409:
                return await self._replace(wish.service, shadow_key, wish)
            raise
        self._observe(created)
        return ""

    async def _replace(self, key: ObjectKey, shadow_key: ObjectKey, wish: Wish | None) -> str:
        """Change or delete what is there, on the fresh object; one that changed meanwhile is looked at again."""
        for _ in range(CONFLICT_LIMIT):
            try:
                raw, current = await self._read(shadow_key.name)
            except KubernetesError as error:
                if error.status != 404:
                    raise
                self._engine.observe_shadows([Deleted(Service, shadow_key)])
                return "" if wish is None else await self._create(wish, shadow_key)
            if find_original(current, self._mesh_namespace) != key:
                return "" if wish is None else f"Service {shadow_key} stands in the way, which is not this mesh's"
            if wish is not None and is_as_wished(current, wish, self._wished_distribution):
                self._engine.observe_shadows([Applied(current)])
                return ""
            try:
                if wish is None or must_recreate(current, wish):
                    await self._delete(current)
                    if wish is None:
                        return ""
                    continue
                desired = build_object(wish, self._mesh_namespace, self._wished_distribution)
                self._observe(await self._write("PUT", shadow_key.name, merge_object(raw, desired)))
                return ""
            except KubernetesError as error:
                if error.status != 409:
                    raise
        raise KubernetesError("it changed again and again meanwhile", status=409)

    async def _read(self, name: str) -> tuple[dict[str, Any], Service]:
        body = await self._send("GET", name)
        return msgspec.json.decode(body, type=dict[str, Any]), _parse_service(body)

    async def _delete(self, current: Service) -> None:
        meta = current.metadata
        preconditions = {"uid": meta.uid, "resourceVersion": meta.resource_version}
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions}
        try:
            await self._send("DELETE", meta.name, body)
        except KubernetesError as error:
            if error.status != 404:
                raise
        self._engine.observe_shadows([Deleted(Service, current.key)])

    async def _write(self, method: str, name: str, body: dict[str, Any]) -> Service:
        """Write a Service; where the server does not know the traffic distribution, the next best one is taken."""
        while True:
            distribution = body["spec"].get("trafficDistribution")
            try:
                written = _parse_service(await self._send(method, name, body))
            except KubernetesError as error:
                if error.status != 422 or distribution is None or "trafficDistribution" not in str(error):
                    raise
                self._settle_distribution(DISTRIBUTIONS.index(distribution) + 1)
                body = {**body, "spec": {**body["spec"], "trafficDistribution": self._wished_distribution}}
                if self._wished_distribution is None:
                    del body["spec"]["trafficDistribution"]
                continue
            if distribution is not None and written.spec.traffic_distribution != distribution:
                self._settle_distribution(len(DISTRIBUTIONS) - 1)  # an older server drops what it does not know
            return written

    def _settle_distribution(self, place: int) -> None:
        self._distribution = max(self._distribution, place)
        _log.info("shadow services have trafficDistribution %s here", self._wished_distribution)

    async def _send(self, method: str, name: str, body: Any = None) -> bytes:
        timeout_s = min(WRITE_TIMEOUT_S, self._lead.remaining_s - LEASE_MARGIN_S)
        if timeout_s <= 0:
            raise NotLeadingError
        path = build_path("v1", "services", namespace=self._mesh_namespace, name=name)
        return await self._client.send(method, path, body, timeout_s=timeout_s)

    def _observe(self, written: Service) -> None:
        self._engine.observe_shadows([Applied(written)])


def _parse_service(body: bytes) -> Service:
    try:
        return msgspec.json.decode(body, type=Service)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise KubernetesError(f"what was written is no Service: {error}") from error
