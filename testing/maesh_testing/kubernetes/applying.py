"""Server-side apply: merges an applied object into the stored one, and records who owns which fields.

Takes schemas, objects and the entries of `managedFields`; returns new ones, or raises StatusError. Pure. Owned fields
are paths whose elements are those of FieldsV1: `f:NAME`, `k:{KEYS}` for an item of a list of type map, and `v:VALUE`
for an item of a set. Managers that write in another way own only top-level fields, so no conflict with them is found.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from maesh_testing.kubernetes.statuses import Cause, StatusError

Object = dict[str, Any]
Path = tuple[str, ...]
Schema = Mapping[str, Any]

APPLY = "Apply"


def list_paths(schema: Schema, value: Any, path: Path = ()) -> Iterator[Path]:
    """List the paths of the fields of a value: what a list of type atomic contains is one field."""
    if isinstance(value, Mapping) and value and schema.get("x-kubernetes-map-type") != "atomic":
        for name, item in value.items():
            yield from list_paths(_get_below(schema, name), item, (*path, f"f:{name}"))
    elif isinstance(value, list) and schema.get("x-kubernetes-list-type") in ("map", "set"):
        for item in value:
            element = _build_element(schema, item)
            yield (*path, element)
            if element.startswith("k:"):
                yield from list_paths(schema.get("items", {}), item, (*path, element))
    else:
        yield path


def merge_applied(schema: Schema, current: Any, applied: Any) -> Any:
    """Merge an applied value into the current one; neither is changed."""
    if isinstance(applied, Mapping) and isinstance(current, Mapping):
        if schema.get("x-kubernetes-map-type") == "atomic":
            return applied
        merged = dict(current)
        for name, item in applied.items():
            below = _get_below(schema, name)
            merged[name] = merge_applied(below, current[name], item) if name in current else item
        return merged
    if (
        isinstance(applied, list)
        and isinstance(current, list)
        and schema.get("x-kubernetes-list-type") in ("map", "set")
    ):
        items = {_build_element(schema, item): item for item in current}
        for item in applied:
            element = _build_element(schema, item)
            items[element] = merge_applied(schema.get("items", {}), items[element], item) if element in items else item
        return list(items.values())
    return applied


def remove_paths(schema: Schema, value: Any, paths: Iterable[Path]) -> Any:
    """Remove fields from a value, which is not changed."""
    for path in sorted(paths, key=len):
        value = _remove(schema, value, path)
    return value


def find_value(schema: Schema, value: Any, path: Path) -> Any:
    """Find the field at a path; None if there is none."""
    for element in path:
        if isinstance(value, Mapping):
            name = element.removeprefix("f:")
            schema, value = _get_below(schema, name), value.get(name)
        elif isinstance(value, list):
            found = [item for item in value if _build_element(schema, item) == element]
            schema, value = schema.get("items", {}), found[0] if found else None
        else:
            return None
    return value


def encode_paths(paths: Iterable[Path]) -> Object:
    """Encode paths as FieldsV1."""
    encoded: Object = {}
    for path in sorted(paths):
        place = encoded
        for element in path:
            place = place.setdefault(element, {})
    return encoded


def decode_paths(encoded: Mapping[str, Any], path: Path = ()) -> set[Path]:
    """Decode FieldsV1. An item that is owned as such is always there if its fields are."""
    if not encoded:
        return {path}
    found = {path} if path and path[-1].startswith("k:") else set()
    for element, below in encoded.items():
        found |= decode_paths(below, (*path, element))
    return found


def apply(
    schema: Schema,
    current: Object,
    applied: Mapping[str, Any],
    entries: Sequence[Mapping[str, Any]],
    *,
    manager: str,
    subresource: str,
    is_forced: bool,
) -> tuple[Object, list[Object], set[Path]]:
    """Apply content to an object; return the new content, the entries of others, and the paths that are owned now.

    Raises StatusError for a conflict with another manager, unless it is forced.
    """
    paths = set(list_paths(schema, applied)) - {()}
    own: set[Path] = set()
    others = []
    for entry in entries:
        if _is_of(entry, manager, APPLY, subresource):
            own = decode_paths(entry["fieldsV1"])
        else:
            others.append(dict(entry))
    changed = {path for path in paths if find_value(schema, current, path) != find_value(schema, applied, path)}
    if not is_forced:
        _refuse_conflicts(others, changed)
    others = take_paths(others, changed)
    kept = {path for entry in others if entry["operation"] == APPLY for path in decode_paths(entry["fieldsV1"])}
    content = remove_paths(schema, current, own - paths - kept)
    return merge_applied(schema, content, applied), others, paths


def _is_of(entry: Mapping[str, Any], manager: str, operation: str, subresource: str) -> bool:
    """Whether an entry of `managedFields` is that of a manager."""
    return (entry.get("manager"), entry.get("operation"), entry.get("subresource", "")) == (
        manager,
        operation,
        subresource,
    )


def take_paths(entries: Iterable[Mapping[str, Any]], paths: set[Path]) -> list[Object]:
    """Take the ownership of fields from all who have applied them."""
    found = []
    for entry in entries:
        if entry["operation"] != APPLY:
            found.append(dict(entry))
            continue
        rest = decode_paths(entry["fieldsV1"]) - paths
        if rest:
            found.append({**entry, "fieldsV1": encode_paths(rest)})
    return found


def _refuse_conflicts(entries: Iterable[Mapping[str, Any]], changed: set[Path]) -> None:
    causes = [
        Cause("FieldManagerConflict", _render(path), f'conflict with "{entry["manager"]}"')
        for entry in entries
        if entry["operation"] == APPLY
        for path in sorted(decode_paths(entry["fieldsV1"]) & changed)
    ]
    if causes:
        text = "; ".join(f"{cause.message}: {cause.field}" for cause in causes)
        details = {"causes": [{"reason": each.type, "message": each.message, "field": each.field} for each in causes]}
        message = f"Apply failed with {len(causes)} conflict{'s' * (len(causes) > 1)}: {text}"
        raise StatusError(409, "Conflict", message, details=details)


def _render(path: Path) -> str:
    return "".join(f".{each[2:]}" if each.startswith("f:") else f"[{each[2:]}]" for each in path)


def _get_below(schema: Schema, name: str) -> Schema:
    below = schema.get("properties", {}).get(name, schema.get("additionalProperties"))
    return below if isinstance(below, Mapping) else {}


def _build_element(schema: Schema, item: Any) -> str:
    if schema.get("x-kubernetes-list-type") == "map" and isinstance(item, Mapping):
        keys = {name: item.get(name) for name in sorted(schema.get("x-kubernetes-list-map-keys", ()))}
        return "k:" + msgspec.json.encode(keys).decode()
    return "v:" + msgspec.json.encode(item).decode()


def _remove(schema: Schema, value: Any, path: Path) -> Any:
    element, rest = path[0], path[1:]
    if isinstance(value, Mapping):
        name = element.removeprefix("f:")
        if name not in value:
            return value
        others = {key: item for key, item in value.items() if key != name}
        return {**value, name: _remove(_get_below(schema, name), value[name], rest)} if rest else others
    if isinstance(value, list):
        items = schema.get("items", {})
        return [
            _remove(items, item, rest) if rest and _build_element(schema, item) == element else item
            for item in value
            if rest or _build_element(schema, item) != element
        ]
    return value
