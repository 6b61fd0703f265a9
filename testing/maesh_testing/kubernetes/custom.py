"""Custom resources against the schemas of their definitions. Takes schema and object, gives what is wrong; pure."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from maesh_testing.kubernetes.statuses import Cause

_TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
}


def list_schema_causes(schema: Mapping[str, Any], found: Mapping[str, Any]) -> list[Cause]:
    """List what a structural schema does not let through."""
    own = {key: value for key, value in found.items() if key not in ("apiVersion", "kind", "metadata")}
    return list(_check(schema, own, ""))


def _check(schema: Mapping[str, Any], value: Any, path: str) -> Iterator[Cause]:
    if value is None and schema.get("nullable"):
        return
    if wanted := _find_wrong_type(schema, value):
        yield _refuse_type(path, value, wanted)
        return
    yield from _check_value(schema, value, path)
    if isinstance(value, dict):
        yield from _check_fields(schema, value, path)
    if isinstance(value, list) and "items" in schema:
        for number, item in enumerate(value):
            yield from _check(schema["items"], item, f"{path}[{number}]")


def _find_wrong_type(schema: Mapping[str, Any], value: Any) -> str:
    """Return the type that is wanted of a value that has another; empty when all is well."""
    kind = "integer,string" if schema.get("x-kubernetes-int-or-string") else str(schema.get("type", ""))
    allowed = (int, str) if kind == "integer,string" else _TYPES.get(kind)
    is_right = allowed is None or (isinstance(value, allowed) and isinstance(value, bool) <= (bool in allowed))
    return "" if is_right else kind


def _check_fields(schema: Mapping[str, Any], value: Mapping[str, Any], path: str) -> Iterator[Cause]:
    for name in schema.get("required", ()):
        if name not in value:
            yield Cause("FieldValueRequired", _join(path, name), "Required value")
    for name, below in schema.get("properties", {}).items():
        if name in value:
            yield from _check(below, value[name], _join(path, name))
    more = schema.get("additionalProperties")
    if isinstance(more, Mapping):
        for name in value:
            yield from _check(more, value[name], f"{path}[{name}]")


def _check_value(schema: Mapping[str, Any], value: Any, path: str) -> Iterator[Cause]:
    if "enum" in schema and value not in schema["enum"]:
        known = ", ".join(f'"{each}"' for each in schema["enum"])
        text = f'Unsupported value: "{value}": supported values: {known}'
        yield Cause("FieldValueNotSupported", path, text)
    if isinstance(value, int | float) and not isinstance(value, bool):
        if value < schema.get("minimum", value):
            yield _refuse(path, value, f"should be greater than or equal to {schema['minimum']}")
        if value > schema.get("maximum", value):
            yield _refuse(path, value, f"should be less than or equal to {schema['maximum']}")
    if isinstance(value, str):
        if "pattern" in schema and not re.search(schema["pattern"], value):
            yield _refuse(path, value, f"should match '{schema['pattern']}'")
        if len(value) < schema.get("minLength", 0):
            yield _refuse(path, value, f"should be at least {schema['minLength']} chars long")
        if len(value) > schema.get("maxLength", len(value)):
            yield _refuse(path, value, f"should be at most {schema['maxLength']} chars long")
    if isinstance(value, list):
        if len(value) < schema.get("minItems", 0):
            yield _refuse(path, value, f"should have at least {schema['minItems']} items")
        if len(value) > schema.get("maxItems", len(value)):
            yield Cause("FieldValueTooMany", path, f"Too many: {len(value)}: must have at most {schema['maxItems']}")


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _refuse(path: str, value: Any, text: str) -> Cause:
    shown = f'"{value}"' if isinstance(value, str) else str(value)
    return Cause("FieldValueInvalid", path or "<nil>", f"Invalid value: {shown}: {path} in body {text}")


def _refuse_type(path: str, value: Any, wanted: str) -> Cause:
    names = {dict: "object", list: "array", str: "string", bool: "boolean", int: "integer", float: "number"}
    found = names.get(type(value), "null")
    text = f'Invalid value: "{found}": {path} in body must be of type {wanted}: "{found}"'
    return Cause("FieldValueTypeInvalid", path or "<nil>", text)
