"""Edits of a ConfigMap or a Deployment that can be undone exactly. Pure.

Takes an object; returns a new one, or the same if there is nothing to do. Annotations of a ConfigMap list the keys that
prepare added, or mark the whole ConfigMap as its own, and list the keys that it found empty.
"""

import copy
import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from maesh_core.controller.dns.objects import Object
from maesh_core.errors import ClusterDnsError

ADDED = "maesh-added"
"""Annotation of a ConfigMap: the keys that prepare added, comma-separated; `*` for the whole ConfigMap."""
WHOLE = "*"
BLANK = "maesh-was-empty"
"""Annotation of a ConfigMap: the keys that were empty before prepare wrote them, comma-separated."""
PATCHED = "maesh-patched"
"""The label that 1.2 put on a ConfigMap; nothing reads it any more."""
RESTART = "maesh-hash"
"""Annotation of a pod template: a hash of what was written for these pods. A new value creates new pods."""
OLD_RESTARTS = ("traefik-mesh-hash",)
RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"

TextEdit = Callable[[str], str]
"""Returns the new text of a key; a missing key has an empty text."""

EMPTY_OBJECT = "{}"
_EMPTY = ("", EMPTY_OBJECT)
"""Texts that are empty: a Corefile's, and stub domains'."""


def build_map(name: str, namespace: str) -> Object:
    """Build a ConfigMap that is marked as created by prepare."""
    metadata = {"name": name, "namespace": namespace, "annotations": {ADDED: WHOLE}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}


def add_texts(config_map: Object, edits: Mapping[str, TextEdit]) -> Object:
    """Edit keys of a ConfigMap, add missing ones, and drop the label of 1.2."""
    found = copy.deepcopy(config_map)
    data = _get_texts(found)
    added = _list_keys(found, ADDED)
    fresh = {key: _edit_text(found, key, edit) for key, edit in edits.items()}
    new = [key for key in fresh if key not in data and WHOLE not in added]
    blank = [key for key in fresh if key in data and not data[key].strip() and key not in added and WHOLE not in added]
    _set_or_drop(found, "data", data | fresh)
    if new:
        _set_annotation(found, ADDED, ",".join(dict.fromkeys([*added, *new])))
    if blank:
        _set_annotation(found, BLANK, ",".join(dict.fromkeys([*_list_keys(found, BLANK), *blank])))
    _drop_label(found)
    return found


def remove_texts(config_map: Object, edits: Mapping[str, TextEdit], *, old_keys: Collection[str] = ()) -> Object | None:
    """Undo `add_texts`: remove keys that prepare added and that are empty now, their list, and the label of 1.2.

    `old_keys` are keys that older versions created for themselves; they kept no list. None if prepare created the
    ConfigMap and nothing is left in it.
    """
    found = copy.deepcopy(config_map)
    data = _get_texts(found)
    added, blank = _list_keys(found, ADDED), _list_keys(found, BLANK)
    for key, edit in edits.items():
        if key in data:
            before, data[key] = data[key], _edit_text(found, key, edit)
            if key in blank:
                is_empty = data[key].strip() == EMPTY_OBJECT
                data[key] = data[key].replace(EMPTY_OBJECT, "", 1) if is_empty else data[key]
                continue
            is_added = key in added or WHOLE in added or (not added and key in old_keys and data[key] != before)
            if is_added and data[key] in _EMPTY:
                del data[key]
    _set_or_drop(found, "data", data)
    _set_annotation(found, ADDED, None)
    _set_annotation(found, BLANK, None)
    _drop_label(found)
    return None if WHOLE in added and not data and not found.get("binaryData") else found


def hash_texts(texts: Mapping[str, str]) -> str:
    """Hash texts by name."""
    joined = "\0".join(part for item in sorted(texts.items()) for part in item)
    return hashlib.sha256(joined.encode()).hexdigest()[:16]


def choose_restart(deployment: Object, digest: str, *, is_forced: bool) -> str:
    """Choose the restart annotation's value: if a restart is due, it changes, even with the same hash."""
    current = str(_get_template_annotations(deployment).get(RESTART) or "")
    base, _, count = current.partition("-")
    if base != digest:
        return digest
    return f"{digest}-{int(count) + 1 if count.isdecimal() else 2}" if is_forced else current


def has_restart(deployment: Object) -> bool:
    """Whether a Deployment's pods were restarted for the mesh."""
    return RESTART in _get_template_annotations(deployment)


def set_restart(deployment: Object, value: str) -> Object:
    """Annotate the pod template, and drop older versions' annotations."""
    found = copy.deepcopy(deployment)
    annotations = _get_template_annotations(found)
    kept = {name: text for name, text in annotations.items() if name not in OLD_RESTARTS}
    _set_template_annotations(found, kept | {RESTART: value})
    return found


def drop_restart(deployment: Object, *, restarted_at: str | None) -> Object:
    """Remove our annotations from the pod template, which creates new pods; if there are none, `restarted_at` does."""
    found = copy.deepcopy(deployment)
    annotations = _get_template_annotations(found)
    kept = {name: text for name, text in annotations.items() if name not in (RESTART, *OLD_RESTARTS)}
    if restarted_at is not None and len(kept) == len(annotations):
        kept[RESTARTED_AT] = restarted_at
    _set_template_annotations(found, kept)
    return found


def _get_texts(config_map: Object) -> dict[str, str]:
    return dict(config_map.get("data") or {})


def _edit_text(config_map: Object, key: str, edit: TextEdit) -> str:
    with naming(config_map, key):
        return edit(_get_texts(config_map).get(key, ""))


@contextmanager
def naming(config_map: Object, key: str) -> Iterator[None]:
    """Add the ConfigMap and its key to an error about a text."""
    try:
        yield
    except ClusterDnsError as error:
        metadata = config_map["metadata"]
        place = f"ConfigMap {metadata.get('namespace', '')}/{metadata.get('name', '')}, {key}"
        raise ClusterDnsError(f"{place}: {error}") from error


def _list_keys(config_map: Object, annotation: str) -> list[str]:
    text = ((config_map.get("metadata") or {}).get("annotations") or {}).get(annotation) or ""
    return [key for key in str(text).split(",") if key]


def is_annotated(config_map: Object) -> bool:
    """Whether prepare has written into a ConfigMap in a way that must be undone."""
    return bool(_list_keys(config_map, ADDED) or _list_keys(config_map, BLANK))


def _drop_label(config_map: Object) -> None:
    labels = dict(config_map["metadata"].get("labels") or {})
    if PATCHED in labels:
        del labels[PATCHED]
        _set_or_drop(config_map["metadata"], "labels", labels)


def _set_annotation(config_map: Object, name: str, value: str | None) -> None:
    annotations = dict(config_map["metadata"].get("annotations") or {})
    if value is not None:
        config_map["metadata"]["annotations"] = annotations | {name: value}
    elif name in annotations:
        del annotations[name]
        _set_or_drop(config_map["metadata"], "annotations", annotations)


def _get_template_annotations(deployment: Object) -> dict[str, Any]:
    metadata = deployment["spec"]["template"].get("metadata") or {}
    return dict(metadata.get("annotations") or {})


def _set_template_annotations(deployment: Object, annotations: dict[str, Any]) -> None:
    if annotations != _get_template_annotations(deployment):
        metadata = deployment["spec"]["template"].setdefault("metadata", {})
        _set_or_drop(metadata, "annotations", annotations)


def _set_or_drop(parent: Object, key: str, value: Mapping[str, Any]) -> None:
    """Set a field, or remove it if it becomes empty, as an API server does."""
    if value:
        parent[key] = dict(value)
    elif parent.get(key):
        del parent[key]
