"""Merges the mesh's entries into a list of an object's status that several controllers write.

Takes the list as it is, and the entries that it must have of the mesh; returns the list as it must be. Pure. The list
is atomic in the Gateway API: each writer replaces all of it, so the entries of others are kept as they are.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from maesh_core.plugin_system.hookspecs import CONTROLLER_NAME

Entry = Mapping[str, Any]

_CONDITIONS = "conditions"
_SINCE = "lastTransitionTime"


def merge_entries(
    current: object, wanted: Sequence[Entry], *, condition_types: Sequence[str], now: str
) -> list[Any] | None:
    """Return the list as it must be; None if it is so already.

    Entries of the mesh stay at their places. `lastTransitionTime` changes only with `status`, and conditions of types
    that are not the mesh's are kept.
    """
    before: list[Any] = current if isinstance(current, list) else []
    former = [entry for entry in before if _is_ours(entry)]
    rest = iter([_complete(entry, former, condition_types, now) for entry in wanted])
    after = [*_replace_ours(before, rest), *rest]
    return None if after == before else after


def _is_ours(entry: object) -> bool:
    return isinstance(entry, Mapping) and entry.get("controllerName") == CONTROLLER_NAME


def _replace_ours(before: Sequence[Any], ours: Iterator[Entry]) -> Iterator[Any]:
    for entry in before:
        if not _is_ours(entry):
            yield entry
            continue
        following = next(ours, None)
        if following is not None:
            yield following


def _complete(entry: Entry, former: Sequence[Entry], condition_types: Sequence[str], now: str) -> Entry:
    """Add the times of conditions, and the conditions of others, from the former entry for the same object."""
    name = _get_name(entry)
    known = _index_conditions(next((each for each in former if _get_name(each) == name), {}))
    conditions = [
        {**condition, _SINCE: _find_since(condition, known.get(condition["type"], {}), now)}
        for condition in entry.get(_CONDITIONS, ())
    ]
    foreign = [condition for type_, condition in known.items() if type_ not in condition_types]
    return {**entry, _CONDITIONS: [*conditions, *foreign]}


def _get_name(entry: Entry) -> Entry:
    return {field: value for field, value in entry.items() if field != _CONDITIONS}


def _index_conditions(entry: Entry) -> dict[str, Entry]:
    found = entry.get(_CONDITIONS)
    conditions = found if isinstance(found, list) else []
    return {
        condition["type"]: condition
        for condition in conditions
        if isinstance(condition, Mapping) and isinstance(condition.get("type"), str)
    }


def _find_since(condition: Entry, before: Entry, now: str) -> str:
    since = before.get(_SINCE)
    return since if isinstance(since, str) and before.get("status") == condition["status"] else now
