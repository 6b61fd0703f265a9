"""Lists in pages. Takes a query, gives items and the list's metadata; every page is of one moment, as etcd's are."""

import base64
import binascii
import json
from collections import OrderedDict
from typing import Any, NamedTuple

from maesh_testing.kubernetes.resources import ApiResource
from maesh_testing.kubernetes.selectors import Selector
from maesh_testing.kubernetes.statuses import refuse_expired, refuse_future_version, refuse_request
from maesh_testing.kubernetes.store import Object, Store

KEPT_SNAPSHOTS = 64
_EXPIRED = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without "
    "the continue parameter, or use the continue token in this response to retrieve the remainder of the results. "
    "Continuing with the provided token results in an inconsistent list - objects that were created, modified, or "
    "deleted between the time the first chunk was returned and now may show up in the list."
)


class ListQuery(NamedTuple):
    """What a list asks for; empty text and 0 as if it were not said."""

    namespace: str = ""
    selector: Selector | None = None
    limit: int = 0
    token: str = ""
    version: str = ""
    match: str = ""


class Lists:
    """Gives pages, and keeps what was there when the first was asked for."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._snapshots: OrderedDict[tuple[tuple[str, str], int], list[Object]] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Lists {len(self._snapshots)} unfinished>"

    def forget(self) -> None:
        """Make every continue token too old."""
        with self._store.lock:
            self._snapshots.clear()

    def get_page(self, resource: ApiResource, query: ListQuery) -> tuple[list[Object], dict[str, Any]]:
        """Return a page and its ListMeta. Raises StatusError."""
        with self._store.lock:
            version, start = self._choose_moment(resource, query)
            objects = self._snapshots.get((resource.key, version))
            if objects is None:
                objects = self._store.list(resource)
            metadata: dict[str, Any] = {"resourceVersion": str(version)}
            found: list[Object] = []
            # a server answers "any version" from its cache, which knows no pages
            limit = query.limit if query.version != "0" or query.token else 0
            rest = [each for each in objects if _key(each) >= start and _is_in(each, query.namespace)]
            for position, each in enumerate(rest):
                if limit and len(found) == limit:
                    self._keep(resource, version, objects)
                    metadata["continue"] = _render_token(version, _key(each))
                    if query.selector is None:
                        metadata["remainingItemCount"] = len(rest) - position
                    break
                if query.selector is None or query.selector(each):
                    found.append(each)
            return found, metadata

    def _choose_moment(self, resource: ApiResource, query: ListQuery) -> tuple[int, str]:
        """Return the version of the list, and the key that it starts at."""
        current = self._store.version
        if query.token:
            if query.version:
                raise refuse_request("specifying resource version is not allowed when using continue")
            version, start = _parse_token(query.token)
            if version < 0:
                return current, start
            if (resource.key, version) not in self._snapshots:
                raise refuse_expired(_EXPIRED, continue_token=_render_token(-1, start))
            return version, start
        if query.version in ("", "0"):
            return current, ""
        if not query.version.isdecimal():
            raise refuse_request(f"Invalid value: {query.version!r}: the resource version is no number")
        asked = int(query.version)
        if asked > current:
            raise refuse_future_version(asked, current)
        if query.match == "Exact" and asked != current:
            if (resource.key, asked) not in self._snapshots:
                raise refuse_expired(f"The resourceVersion for the provided list is too old: {asked}")
            return asked, ""
        return current, ""

    def _keep(self, resource: ApiResource, version: int, objects: list[Object]) -> None:
        self._snapshots[resource.key, version] = objects
        while len(self._snapshots) > KEPT_SNAPSHOTS:
            self._snapshots.popitem(last=False)


def _key(found: Object) -> str:
    """Return the place in a list: a NUL parts namespace and name, so that the order is that of the pairs."""
    return f"{found['metadata'].get('namespace', '')}\0{found['metadata']['name']}"


def _is_in(found: Object, namespace: str) -> bool:
    return not namespace or found["metadata"].get("namespace") == namespace


def _render_token(version: int, start: str) -> str:
    text = json.dumps({"v": "meta.k8s.io/v1", "rv": version, "start": start})
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _parse_token(token: str) -> tuple[int, str]:
    try:
        found = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        return int(found["rv"]), str(found["start"])
    except (binascii.Error, ValueError, KeyError, TypeError) as error:
        raise refuse_request(f"continue key is not valid: {error}") from error
