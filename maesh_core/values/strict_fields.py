"""Decodes the fields of an object strictly: an unknown name, or a value of the wrong type, is a fault.

Takes plain values and struct types that forbid unknown fields. Returns a struct of the valid fields, and each fault
with the path of its field and the most similar known name. The struct of an object with faults only shows what the
object concerns; it must not be applied. Raises nothing for plain values.
"""

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

StructT = TypeVar("StructT", bound=msgspec.Struct)

MAX_FAULTS = 10
"""Limit of reported faults of one object; the others are reported when these are corrected."""

_PATH_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")
_PLAIN_NAME = re.compile(r"[\w.$/-]{1,80}", re.ASCII)
_Step = str | int


def decode_strictly(
    fields: Mapping[str, object],
    type_: type[StructT],
    *,
    other: type[msgspec.Struct] | None = None,
    synonyms: Mapping[str, str] | None = None,
) -> tuple[StructT, tuple[str, ...]]:
    """Decode `fields` as `type_`, all of whose fields have defaults; return the struct and its faults.

    `other` is another type that such objects may have: a fault about a name that it knows says where the name belongs.
    `synonyms` maps names that people may write to known ones.
    """
    try:
        return msgspec.convert(fields, type_), ()
    except msgspec.ValidationError:
        pass
    pruner = _Pruner([_list_places(each) for each in (type_, other) if each is not None], synonyms or {})
    value = pruner.prune(fields, inspect.type_info(type_), "")
    pruner.move_misplaced(value)
    faults = pruner.faults
    while len(faults) <= MAX_FAULTS:
        try:
            return msgspec.convert(value, type_), _shorten(faults)
        except msgspec.ValidationError as error:
            text, _, place = str(error).partition(" - at `$")
            steps = _read_steps(place.rstrip("`"))
            faults.append(f"{_show_path(steps) or 'the object'}: {_rephrase(text, inspect.type_info(type_), steps)}")
            if not _drop(value, steps):
                break
    return type_(), _shorten(faults)


def _shorten(faults: list[str]) -> tuple[str, ...]:
    return (*faults[:MAX_FAULTS], "and more") if len(faults) > MAX_FAULTS else tuple(faults)


class _Pruner:
    """Copies plain values without unknown fields; a misspelt field gets its likely name."""

    def __init__(self, places: list[dict[str, str]], synonyms: Mapping[str, str]) -> None:
        self.faults: list[str] = []
        self._places = places
        self._synonyms = synonyms
        self._misplaced: list[tuple[str, Any]] = []

    def prune(self, value: Any, type_: inspect.Type, path: str) -> Any:
        """Copy a value."""
        type_ = _choose_type(type_, value)
        if isinstance(type_, inspect.StructType) and isinstance(value, Mapping):
            return self._prune_fields(value, {each.encode_name: each.type for each in type_.fields}, path)
        if isinstance(type_, inspect.VarTupleType) and isinstance(value, list | tuple):
            return [self.prune(item, type_.item_type, f"{path}[{index}]") for index, item in enumerate(value)]
        return dict(value) if isinstance(value, Mapping) else value

    def _prune_fields(self, value: Mapping[str, Any], known: Mapping[str, inspect.Type], path: str) -> dict[str, Any]:
        kept: dict[str, Any] = {}
        for name, item in value.items():
            place = f"{path}.{_show_name(name)}" if path else _show_name(name)
            if name in known:
                kept[name] = self.prune(item, known[name], place)
                continue
            synonym = self._synonyms.get(name)
            nearest = synonym if synonym in known else _find_nearest(name, known)
            belongs = None if nearest else next((each[name] for each in self._places if name in each), None)
            if nearest is not None:
                hint = f"did you mean {nearest}?"
                if nearest not in value and nearest not in kept:
                    kept[nearest] = item
            elif belongs is not None:
                hint = f"it belongs at {belongs}"
                if self._places[0].get(name) == belongs:
                    self._misplaced.append((belongs, item))
            else:
                hint = f"known here: {', '.join(sorted(known)) or 'none'}"
            if len(self.faults) <= MAX_FAULTS:
                self.faults.append(f"{place}: unknown field; {hint}")
        return kept

    def move_misplaced(self, value: Any) -> None:
        """Move fields at a wrong level to their place, unless the item of a list would have to be guessed."""
        for place, item in self._misplaced:
            *way, name = place.split(".")
            holder = value
            for step in way:
                holder = holder.setdefault(step, {}) if isinstance(holder, dict) and "[" not in step else None
            if isinstance(holder, dict):
                holder.setdefault(name, item)


def _choose_type(type_: inspect.Type, value: Any) -> inspect.Type:
    """Choose the member of a union that is a mapping or a list like the value; remove rules of length and size."""
    while isinstance(type_, inspect.Metadata):
        type_ = type_.type
    if not isinstance(type_, inspect.UnionType):
        return type_
    wanted = (
        (inspect.StructType, inspect.DictType)
        if isinstance(value, Mapping)
        else (inspect.VarTupleType,)
        if isinstance(value, list | tuple)
        else ()
    )
    return next((each for each in type_.types if isinstance(each, wanted)), type_)


def _list_places(type_: type[msgspec.Struct]) -> dict[str, str]:
    """List every field name of a type and of its nested types, with its path; the shortest path first."""
    places: dict[str, str] = {}

    def walk(each: inspect.Type, path: str) -> Iterator[tuple[str, inspect.Type]]:
        if isinstance(each, inspect.Metadata):
            yield from walk(each.type, path)
        elif isinstance(each, inspect.UnionType):
            for member in each.types:
                yield from walk(member, path)
        elif isinstance(each, inspect.VarTupleType):
            yield from walk(each.item_type, f"{path}[]")
        elif isinstance(each, inspect.StructType):
            for field in each.fields:
                yield (f"{path}.{field.encode_name}" if path else field.encode_name), field.type

    level: list[tuple[str, inspect.Type]] = [("", inspect.type_info(type_))]
    while level:
        level = [found for path, each in level for found in walk(each, path)]
        for path, _ in level:
            places.setdefault(path.rpartition(".")[2], path)
    return places


def _find_nearest(name: str, known: Mapping[str, object]) -> str | None:
    by_lower = {each.lower(): each for each in known}
    lower = name[:80].lower()
    beginning = [each for each in by_lower if len(lower) > 3 and each.startswith(lower)]
    close = beginning or get_close_matches(lower, by_lower, n=1, cutoff=0.65)
    return by_lower[close[0]] if close else None


def _read_steps(place: str) -> list[_Step]:
    """Parse the path in a ValidationError, up to the mapping whose key or value is wrong (`[...]`)."""
    steps: list[_Step] = []
    for name, index in _PATH_STEP.findall(place):
        if index == "...":
            break
        steps.append(name or int(index))
    return steps


def _rephrase(text: str, type_: inspect.Type, steps: list[_Step]) -> str:
    """Rephrase msgspec's text for a value of the wrong type: with the allowed values, or the description of a text."""
    if "of length >= 1" in text:
        return "it is empty; leave the field out if it is not meant"
    text = f"{text[:1].lower()}{text[1:].replace('`', '').replace(' | null', '').replace('array', 'list')}"
    found = list(_walk_types(type_, steps))
    choices = [str(value) for each in found if isinstance(each, inspect.LiteralType) for value in each.values]
    if text.startswith("invalid enum value") and choices:
        return f"{text}; known: {', '.join(choices)}"
    schemas = [each.extra_json_schema or {} for each in found if isinstance(each, inspect.Metadata)]
    descriptions = [str(each["description"]) for each in schemas if "description" in each]
    return f"expected {descriptions[0]}" if "matching regex" in text and descriptions else text


def _walk_types(type_: inspect.Type, steps: list[_Step]) -> Iterator[inspect.Type]:
    """Yield the types that the value at a path may have, with their metadata."""
    if isinstance(type_, inspect.UnionType):
        for member in type_.types:
            yield from _walk_types(member, steps)
        return
    if not steps:
        yield type_
    if isinstance(type_, inspect.Metadata):
        yield from _walk_types(type_.type, steps)
    elif isinstance(type_, inspect.VarTupleType) and steps:
        yield from _walk_types(type_.item_type, steps[1:])
    elif isinstance(type_, inspect.StructType) and steps:
        for field in type_.fields:
            if field.encode_name == steps[0]:
                yield from _walk_types(field.type, steps[1:])


def _show_path(steps: list[_Step]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).removeprefix(".")


def _show_name(name: str) -> str:
    """Show a field's name, which is untrusted, on one line."""
    return name if _PLAIN_NAME.fullmatch(name) else ascii(name[:80])


def _drop(value: Any, steps: list[_Step]) -> bool:
    """Remove the value at a path, or the whole list of an item; return False if there is nothing to remove."""
    while steps and isinstance(steps[-1], int):  # otherwise later items would be reported at wrong indexes
        steps = steps[:-1]
    if not steps:
        return False
    for step in steps[:-1]:
        value = value[step]
    del value[steps[-1]]
    return True
