"""Plans of changes to a cluster, as values that can be shown before they are applied. Pure."""

import difflib
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from maesh_core.controller.dns.objects import Edit, Object, Resource
from maesh_core.model.keys import ObjectKey

_HIDDEN = ("managedFields",)


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One object before and after; None means that it does not exist. `summary` describes the change."""

    resource: Resource
    key: ObjectKey
    before: Object | None
    after: Object | None
    edit: Edit
    summary: str

    @property
    def title(self) -> str:
        """The object in messages: `ConfigMap kube-system/coredns`."""
        return f"{self.resource.kind} {self.key.namespace}/{self.key.name}"


def build_change(
    resource: Resource, before: Object | None, edit: Edit, summary: str, *, key: ObjectKey | None = None
) -> list[Change]:
    """Build the change that an edit makes, none if it changes nothing; an object that does not exist needs its key."""
    after = edit(before)
    if after == before:
        return []
    if key is None:
        metadata = (before or {})["metadata"]
        key = ObjectKey(str(metadata.get("namespace") or ""), str(metadata["name"]))
    return [Change(resource=resource, key=key, before=before, after=after, edit=edit, summary=summary)]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Changes in the order in which they are applied, and notes for the user."""

    changes: tuple[Change, ...] = ()
    warnings: tuple[str, ...] = ()

    def render_diff(self) -> str:
        """Render as a unified diff; empty when there is nothing to do."""
        return "".join(line for change in self.changes for line in _diff(change))


def join_plans(plans: Iterable[Plan]) -> Plan:
    """Join plans in order."""
    found = list(plans)
    return Plan(
        changes=tuple(change for plan in found for change in plan.changes),
        warnings=tuple(text for plan in found for text in plan.warnings),
    )


def _diff(change: Change) -> Iterator[str]:
    old, new = (change.title if found is not None else "/dev/null" for found in (change.before, change.after))
    before, after = list(_render(change.before, "")), list(_render(change.after, ""))
    for line in difflib.unified_diff(before, after, old, new, lineterm=""):
        yield f"{line}\n"


def _render(value: Any, path: str) -> Iterator[str]:
    """Render an object as lines; a text of several lines is indented below its name, as in YAML."""
    if isinstance(value, dict) and value:
        for key in sorted(value):
            if key not in _HIDDEN:
                yield from _render(value[key], f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and value:
        for place, item in enumerate(value):
            yield from _render(item, f"{path}[{place}]")
    elif isinstance(value, str) and "\n" in value:
        yield f"{path}: {'|' if value.endswith(chr(10)) else '|-'}"
        yield from (f"  {line}" for line in value.removesuffix("\n").split("\n"))
    elif value is not None:
        yield f"{path}: {value}"
