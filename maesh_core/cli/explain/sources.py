"""The sources of `maesh explain`: the API of a controller, or manifests.

Takes what fetches a path, or an engine that was built from manifests, and returns the same Sources for both. Checks the
parts of a controller's responses that it reads. Raises StartupError if there is no usable response.
"""

import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple, TypeVar

import msgspec

from maesh_core.controller.engine import Engine
from maesh_core.controller.explaining.client import Pods, TopologyPods
from maesh_core.errors import MaeshError, StartupError
from maesh_core.model.configuration import HttpRouter, StreamRouter
from maesh_core.model.keys import ObjectKey
from maesh_core.model.messages import FIXED_FIELDS, PodsReport, Update, parse_update

ValueT = TypeVar("ValueT")


class Sources(NamedTuple):
    """The input of an explanation; `objects` and `problems` are empty if the controller does not serve them."""

    topology: Mapping[str, Any]
    update: Update
    pods: Pods
    objects: Sequence[Mapping[str, Any]]
    problems: Mapping[str, str]


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
        topology = _require(_decode(self._fetch("/api/topology/current"), dict[str, Any]), "services", "pods")
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
        return _decode(body, type_)

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


def read_engine(engine: Engine) -> Sources:
    """Read everything from an engine that was built from manifests: the documents that its API would serve."""
    topology = _require(_decode(engine.render_topology(), dict[str, Any]), "services", "pods")
    update = parse_configuration(engine.render_configuration(None) or b"{}")
    objects = _decode(engine.render_objects(), list[dict[str, Any]])
    return Sources(topology, update, engine.pods, objects, dict(engine.problems))


def parse_configuration(body: bytes) -> Update:
    """Parse the response to a pull, with all its protocols."""
    protocols = _require(_decode(body, dict[str, Any]), "revision").keys() - FIXED_FIELDS
    return parse_update(body, {name: HttpRouter if name == "http" else StreamRouter for name in protocols})


def _decode(body: bytes, type_: type[ValueT]) -> ValueT:
    try:
        return msgspec.json.decode(body, type=type_)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StartupError(f"the server is not a controller: {error}") from error


def _require(document: dict[str, Any], *keys: str) -> dict[str, Any]:
    missing = set(keys) - document.keys()
    if missing:
        raise StartupError(f"the server is not a controller: its response has no {min(missing)}")
    return document
