"""Keeps the certificates to trust in a ConfigMap, which proxies and other pods mount.

The leading controller writes it when the authority changes, and repairs it when somebody changes it. Only certificates
are written, whatever else a file with them has. What others have added to the ConfigMap stays.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from maesh_core.plugin import (
    ClusterApi,
    ControllerNode,
    KubernetesError,
    MetricFamily,
    ObjectKey,
    Resource,
    ResourceKind,
)
from maesh_mtls.controller.authority.ca import render_certificates
from maesh_mtls.controller.authority.keeper import AuthorityKeeper, AuthorityUnavailableError

ORIGIN: Final = "mtls trust"
BUNDLE: Final = "bundle.pem"
CHECK_S: Final = 5.0
"""Interval between two checks, because the leadership and a rotation's phase change without an event."""
TIMEOUT_S: Final = 5.0
LABELS: Final = {"app.kubernetes.io/part-of": "maesh"}
_CONFLICT = 409

_log = logging.getLogger(__name__)


class ConfigMap(Resource, frozen=True):
    """v1 ConfigMap."""

    data: dict[str, str] = msgspec.field(default_factory=dict)


CONFIG_MAPS = ResourceKind(name="ConfigMap", plural="configmaps", api_versions=("v1",), type=ConfigMap)


class TrustConfigMap:
    """The ConfigMap with the certificates to trust. Only the leader writes it."""

    name = "mtls trust"

    def __init__(
        self,
        controller: ControllerNode,
        api: ClusterApi,
        key: ObjectKey,
        keeper: AuthorityKeeper,
        *,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._controller = controller
        self._api = api
        self._key = key
        self._place = f"ConfigMap {key.namespace}/{key.name}"
        self._keeper = keeper
        self._pause = pause
        self._found: ConfigMap | None = None
        self._is_read = False
        self._wake = asyncio.Event()
        keeper.on_change(self._wake.set)
        self._failure: str | None = None
        self._writes = 0

    def __repr__(self) -> str:
        return f"<TrustConfigMap {self._key}>"

    async def run(self) -> None:
        """Keep the ConfigMap until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow())
            while True:
                self._wake.clear()  # cleared before the check: a change during it is handled by the next one
                await self.check()
                await self._wait()

    async def check(self) -> None:
        """Write the certificates if this controller leads and the ConfigMap differs."""
        authority = self._keeper.current
        if authority is None or not self._is_read or not self._controller.is_leader:
            return
        bundle = render_certificates(authority.bundle)
        if self._found is not None and self._found.data.get(BUNDLE) == bundle:
            self._set_failure(None)
            return
        try:
            # read again, so that a controller that is about to lose the lead does not publish a former state
            bundle = render_certificates((await self._keeper.load()).bundle)
            self._found = await self._write(bundle)
        except (AuthorityUnavailableError, KubernetesError) as error:
            if getattr(error, "status", 0) != _CONFLICT:  # otherwise the watch delivers what somebody else has written
                self._set_failure(str(error))
            return
        self._writes += 1
        self._set_failure(None)
        _log.info("the certificates to trust were written to %s", self._place)

    def collect_metrics(self) -> Sequence[MetricFamily]:
        """Return how often the ConfigMap was written."""
        return [
            MetricFamily(
                name="maesh_mtls_trust_writes",
                type="counter",
                help="How often this controller has written the certificates to trust to their ConfigMap.",
                samples=(((), self._writes),),
            )
        ]

    async def _follow(self) -> None:
        changes = self._api.watch_object(CONFIG_MAPS, self._key, report=self._report)
        try:
            async for found in changes:
                self._found = found if isinstance(found, ConfigMap) else None
                self._is_read = True
                self._wake.set()
        finally:
            if isinstance(changes, AsyncGenerator):
                await changes.aclose()

    async def _wait(self) -> None:
        waits = [asyncio.ensure_future(self._pause(CHECK_S)), asyncio.ensure_future(self._wake.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def _write(self, bundle: str) -> ConfigMap:
        path = f"/api/v1/namespaces/{self._key.namespace}/configmaps"
        if self._found is None:
            metadata = {"name": self._key.name, "namespace": self._key.namespace, "labels": LABELS}
            fresh: Mapping[str, Any] = {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": metadata,
                "data": {BUNDLE: bundle},
            }
            return await self._send("POST", path, fresh)
        path = f"{path}/{self._key.name}"
        current: dict[str, Any] = msgspec.json.decode(await self._api.send("GET", path, timeout_s=TIMEOUT_S))
        current["data"] = {**(current.get("data") or {}), BUNDLE: bundle}
        return await self._send("PUT", path, current)  # refused if it has been changed since it was read

    async def _send(self, method: str, path: str, config_map: Mapping[str, Any]) -> ConfigMap:
        answer = await self._api.send(method, path, config_map, timeout_s=TIMEOUT_S)
        try:
            return msgspec.json.decode(answer, type=ConfigMap)
        except msgspec.DecodeError as error:
            raise KubernetesError(f"{method} {path}: the answer is malformed: {error}") from error

    def _report(self, problem: str | None) -> None:
        self._set_failure(problem)

    def _set_failure(self, failure: str | None) -> None:
        if failure == self._failure:
            return
        self._failure = failure
        if failure is None:
            _log.warning("%s can be read and written again", self._place)
        else:
            _log.error("%s cannot be kept: %s", self._place, failure)
        self._controller.report(ORIGIN, None if failure is None else f"{self._place}: {failure}")
