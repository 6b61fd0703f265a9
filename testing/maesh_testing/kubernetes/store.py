"""The objects of an API server for tests, their versions, and what happened to them lately.

One counter gives every change its resource version, as etcd's revision does. All methods may be called from any thread.
Must not know of HTTP; what is a valid object is decided elsewhere.
"""

import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from maesh_testing.kubernetes.resources import CORE, DEFINITIONS, EVENTS, ApiResource, Key, read_definition
from maesh_testing.kubernetes.statuses import StatusError, refuse_expired

HISTORY_LIMIT = 10_000
"""Changes of one resource that a watch may still start from."""

Object = dict[str, Any]
Name = tuple[str, str]
"""Namespace and name."""
Hook = Callable[[str, str, Object], None]
"""Called with type, plural and object. It may change further objects; it must not wait for another thread."""


class Change(NamedTuple):
    """Something that happened to an object. `previous` is what it was, None for one that was created."""

    version: int
    type: str
    object: Object
    previous: Object | None


class Watch:
    """Changes that one watch has still to send. `wake` is called, from any thread, whenever there is something."""

    def __init__(self, key: Key, wake: Callable[[], None]) -> None:
        self.key = key
        self.changes: deque[Change] = deque()
        self.is_ended = False
        self.wake = wake

    def __repr__(self) -> str:
        return f"<Watch {self.key[1]} {len(self.changes)} waiting{' ended' if self.is_ended else ''}>"

    def end(self) -> None:
        """Let it end once all is sent."""
        self.is_ended = True
        self.wake()


class Store:
    """Everything that the server knows. `lock` makes several calls one."""

    def __init__(self, *, history_limit: int = HISTORY_LIMIT) -> None:
        self.lock = threading.RLock()
        self.version = 1
        self.resources: dict[Key, ApiResource] = {resource.key: resource for resource in CORE}
        self.hooks: list[Hook] = []
        self._history_limit = history_limit
        self._objects: dict[Key, dict[Name, Object]] = {}
        self._history: dict[Key, deque[Change]] = {}
        self._forgotten: dict[Key, int] = {}
        self._compacted = 0
        self._watches: set[Watch] = set()

    def __repr__(self) -> str:
        return f"<Store at {self.version}: {sum(map(len, self._objects.values()))} objects>"

    def find(self, resource: ApiResource, namespace: str, name: str) -> Object | None:
        """Find an object; it must not be changed."""
        return self._objects.get(_key(resource), {}).get((namespace, name))

    def list(self, resource: ApiResource, namespace: str = "") -> list[Object]:
        """List the objects of a namespace, or of all, in the order of their names; they must not be changed."""
        with self.lock:
            objects = self._objects.get(_key(resource), {})
            return [objects[key] for key in sorted(objects) if not namespace or key[0] == namespace]

    def commit(self, kind: str, resource: ApiResource, found: Mapping[str, Any]) -> Object:
        """Do what was decided: `ADDED`, `MODIFIED` or `DELETED`. Returns the object with its new version."""
        with self.lock:
            self.version += 1
            fresh: Object = {**found, "metadata": {**found["metadata"], "resourceVersion": str(self.version)}}
            name = fresh["metadata"].get("namespace", ""), fresh["metadata"]["name"]
            objects = self._objects.setdefault(_key(resource), {})
            previous = objects.get(name)
            if kind == "DELETED":
                objects.pop(name, None)
            else:
                objects[name] = fresh
            self._tell(_key(resource), Change(self.version, kind, fresh, previous))
            if resource.key == DEFINITIONS:
                self._define(kind, fresh)
            for hook in list(self.hooks):
                hook(kind, resource.plural, fresh)
            return fresh

    def emit(self, kind: str, resource: ApiResource, found: Mapping[str, Any]) -> Object:
        """Tell watches of something that did not happen to any object that is kept."""
        with self.lock:
            self.version += 1
            fresh: Object = {**found, "metadata": {**found["metadata"], "resourceVersion": str(self.version)}}
            previous = fresh if kind != "ADDED" else None
            self._tell(_key(resource), Change(self.version, kind, fresh, previous))
            return fresh

    def _tell(self, key: Key, change: Change) -> None:
        history = self._history.setdefault(key, deque())
        history.append(change)
        while len(history) > self._history_limit:
            self._forgotten[key] = history.popleft().version
        for watch in self._watches:
            if watch.key == key:
                watch.changes.append(change)
                watch.wake()

    def _define(self, kind: str, definition: Object) -> None:
        """Serve what a definition defines, or serve it no longer."""
        resource = read_definition(definition)
        previous = self.resources.get(resource.key)
        if kind != "DELETED":
            self.resources[resource.key] = resource
            if previous is not None and previous.versions != resource.versions:
                self.end_watches(resource)
            return
        for found in self.list(resource):
            self.commit("DELETED", resource, found)
        self.resources.pop(resource.key, None)
        self.end_watches(resource)
        for kept in (self._objects, self._history):
            kept.pop(resource.key, None)
        self._forgotten[resource.key] = self.version  # a definition of the same name has no history of this one

    def send_bookmarks(self, resource: ApiResource) -> None:
        """Let watches tell their clients the version that they are at."""
        with self.lock:
            for watch in self._watches:
                if watch.key == _key(resource):
                    watch.changes.append(Change(self.version, "BOOKMARK", {}, None))
                    watch.wake()

    def open_watch(self, resource: ApiResource, since: int | None, wake: Callable[[], None]) -> tuple[Watch, int]:
        """Open a watch from a version on, None: from all that is there, told as added. Returns it and where it starts.

        Raises StatusError when the changes since then are forgotten.
        """
        with self.lock:
            key = _key(resource)
            watch = Watch(key, wake)
            if since is None:
                watch.changes.extend(
                    Change(int(found["metadata"]["resourceVersion"]), "ADDED", found, None)
                    for found in self.list(resource)
                )
            else:
                if since < self.get_oldest(resource):
                    raise refuse_expired(f"too old resource version: {since} ({self.get_oldest(resource)})")
                watch.changes.extend(change for change in self._history.get(key, ()) if change.version > since)
            self._watches.add(watch)
            return watch, self.version

    def close_watch(self, watch: Watch) -> None:
        """Forget a watch."""
        with self.lock:
            self._watches.discard(watch)

    def end_watches(self, resource: ApiResource | None = None) -> None:
        """Let the watches of a resource, or all, end as if their time were over."""
        with self.lock:
            for watch in self._watches:
                if resource is None or watch.key == _key(resource):
                    watch.end()

    def count_watches(self, resource: ApiResource) -> int:
        """Count the watches that stand."""
        with self.lock:
            return sum(watch.key == _key(resource) and not watch.is_ended for watch in self._watches)

    def get_oldest(self, resource: ApiResource) -> int:
        """Return the oldest version from which a watch may start."""
        return max(self._compacted, self._forgotten.get(_key(resource), 0))

    def compact(self) -> None:
        """Forget all changes, so that every version before this one is too old."""
        with self.lock:
            self.version += 1
            self._compacted = self.version
            self._history.clear()

    def find_resource(self, plural: str) -> ApiResource:
        """Find a resource by plural, kind or `plural.group`; the core's own first. Raises StatusError."""
        with self.lock:
            for resource in self.resources.values():
                if plural in (resource.plural, resource.kind, f"{resource.plural}.{resource.group}"):
                    return resource
        raise StatusError(404, "NotFound", f"the server has no resource {plural!r}")


def _key(resource: ApiResource) -> Key:
    """Return where objects are kept: both groups of events have the same."""
    return EVENTS if resource.plural == "events" and not resource.is_custom else resource.key
