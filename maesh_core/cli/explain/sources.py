"""Reads the sources of an explanation from the API of a controller.

Takes what fetches a path; returns Sources, as `controller/explaining/sources.py: read_engine` does for manifests.
Raises StartupError if there is no usable response.
"""

import urllib.parse
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, TypeVar

import msgspec

from maesh_core.controller.explaining.client import TopologyPods
from maesh_core.controller.explaining.sources import Sources, decode_body, parse_configuration, require_fields
from maesh_core.errors import MaeshError, StartupError
from maesh_core.model.keys import ObjectKey
from maesh_core.model.messages import PodsReport

ValueT = TypeVar("ValueT")


class _Report(msgspec.Struct):
    """The part of `/api/status/controller` that `maesh explain` reads."""

    problems: dict[str, str] = {}


class RemotePods:
    """Implements `Pods` with a controller's `/api/pods`."""

    is_complete = True

    def __init__(self, api: "SourcesClient") -> None:
        self._api = api

    def find_by_name(self, key: ObjectKey) -> PodsReport:
        """Find the pod of this name, or similar names."""
        return self._ask(namespace=key.namespace, name=key.name)

    def find_by_address(self, address: str) -> PodsReport:
        """Find the pods that have this address."""
        return self._ask(address=address)

    def _ask(self, **query: str) -> PodsReport:
        found = self._api.find(f"/api/pods?{urllib.parse.urlencode(query)}", PodsReport)
        return found if found is not None else PodsReport()


class SourcesClient:
    """Reads what a controller serves. Responses are not trusted, because the server may not be a controller.

    `fetch` raises MaeshError; if the server has answered, that has a `status`.
    """

    def __init__(self, fetch: Callable[[str], bytes]) -> None:
        self._fetch_path = fetch

    def read_sources(self) -> Sources:
        """Read everything except pods, which are queried one by one."""
        topology = require_fields(decode_body(self._fetch("/api/topology/current"), dict[str, Any]), "services", "pods")
        update = parse_configuration(self._fetch("/api/configuration/current"))
        # Earlier versions have neither of these two. With /api/pods, a query without a name is answered with 400.
        has_pods = self._fetch_or_status("/api/pods") != HTTPStatus.NOT_FOUND
        objects = self.find("/api/objects", list[dict[str, Any]]) or []
        report = self.find("/api/status/controller", _Report) or _Report()
        pods = RemotePods(self) if has_pods else TopologyPods(topology)
        return Sources(topology, update, pods, objects, report.problems)

    def find(self, path: str, type_: type[ValueT]) -> ValueT | None:
        """Read a document; None if the controller does not have this path."""
        body = self._fetch_or_status(path)
        if body == HTTPStatus.NOT_FOUND:
            return None
        if isinstance(body, int):
            raise StartupError(f"the controller does not answer {path}: status {body}")
        return decode_body(body, type_)

    def _fetch_or_status(self, path: str) -> bytes | int:
        """Read a response; returns only the status if it is an error that concerns this path."""
        try:
            return self._fetch_path(path)
        except MaeshError as error:
            status: int = getattr(error, "status", 0)
            if status in (0, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
                raise _add_advice(error) from error
            return status

    def _fetch(self, path: str) -> bytes:
        try:
            return self._fetch_path(path)
        except MaeshError as error:
            raise _add_advice(error) from error


def _add_advice(error: MaeshError) -> StartupError:
    return StartupError(f"{error}; set --endpoint to another controller, or use --manifests")
