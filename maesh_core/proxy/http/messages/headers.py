"""The header fields to forward, which middlewares read and change.

Stores the field lines, `Name: value`, in the order in which they arrived. A head that middlewares only add fields to is
never split into lines. Framing and hop-by-hop fields are not included and cannot be added.
"""

import os
from collections.abc import Container, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Final

from maesh_core.plugin_system.field_changes import FieldChange, FieldChanges
from maesh_core.proxy.http.messages.head import AppliedChanges, Head
from maesh_core.proxy.http.messages.syntax import parse_list
from maesh_core.values.field_rules import UNTOUCHABLE, is_field_value, is_token

CACHED_FIELDS: Final = 512
CACHED_FIELD_LIMIT_BYTES: Final = 256
"""Rendered lines of fields up to this size are cached, because middlewares often set the same few fields. Each hit
saves 0.4 us in compiled form."""

KEPT_FIELDS_BYTES: Final = 4096
"""Fields of a changed head up to this size are kept with that head: connections keep heads while they are idle, and one
of HTTP/2 keeps 32, so larger fields would take gigabytes with thousands of clients."""
SHARED_BYTES: Final = 8
"""Names of fields whose first bytes are the same are searched with one text."""


class Headers:
    """Implements `interfaces.Headers` over a checked head, without the fields whose names are in `dropped`.

    `parsed` is that head in parsed form, which keeps its bytes in lower case, and what `apply` makes of its fields: for
    a head that is repeated, the same changes are then made at once. `_applied` is such a kept result. It is shared, so
    any other use of the fields first copies it to `_lines` and `_added`, which are in use from then on (`_is_own`).
    """

    __slots__ = ("_added", "_applied", "_dropped", "_head", "_is_own", "_lines", "_lower", "_parsed")

    def __init__(self, head: bytes = b"", dropped: Container[bytes] = (), parsed: Head | None = None) -> None:
        self._head = head
        self._lower: bytes | None = None
        self._parsed = parsed
        self._dropped = dropped
        self._applied: AppliedChanges | None = None
        self._is_own = parsed is None
        self._lines: list[bytes] | None = None
        self._added: list[bytes] = []

    def __repr__(self) -> str:
        return f"<Headers {self.items()!r}>"

    @property
    def lines(self) -> list[bytes]:
        """Every field line. After this call, changes apply to the lines and no longer depend on the head."""
        self._own()
        if self._lines is None:
            self._lines = split_fields(self._head, without=self._dropped) + self._added
        return self._lines

    @property
    def is_split(self) -> bool:
        """Whether `text` has all fields; otherwise they are the fields of the head and those in `added`."""
        applied = self._applied
        return (self._lines if applied is None else applied.lines) is not None

    @property
    def added(self) -> bytes:
        """The fields that follow those of the head, while `is_split` is false."""
        applied = self._applied
        return b"".join(self._added) if applied is None else applied.text

    @property
    def text(self) -> bytes:
        """Every field line, joined. As after `lines`, changes no longer depend on the head."""
        applied = self._applied
        return b"".join(self.lines) if applied is None or applied.lines is None else applied.text

    def render(self, head: Head, outgoing: bytes) -> bytes:
        """Render `outgoing` of a head, the fields in `added`, and the empty line; not for fields that are split."""
        applied = self._applied
        if applied is None or head is not self._parsed:
            return b"".join((outgoing, self.added, b"\r\n"))
        if not applied.rendered:
            applied.rendered = b"".join((outgoing, applied.text, b"\r\n"))
        return applied.rendered

    def get(self, name: bytes) -> bytes | None:
        """Return the first value, or None."""
        values = self.get_all(name)
        return values[0] if values else None

    def get_all(self, name: bytes) -> list[bytes]:
        """Return every value, in order."""
        prefix, length = name.lower() + b":", len(name) + 1
        return [line[length:].strip() for line in self._find(name) if line[:length].lower() == prefix]

    def items(self) -> list[tuple[bytes, bytes]]:
        """Return the name, in its original case, and the value of every field."""
        applied = self._applied
        lines, added = (self._lines, self._added) if applied is None else (applied.lines, applied.added)
        if lines is None:
            lines = [*split_fields(self._head, without=self._dropped), *added]
        return [split_field(line) for line in lines]

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over a copy of the fields."""
        return iter(self.items())

    def set(self, name: bytes, value: bytes) -> None:
        """Replace all values by one."""
        self._own()
        line, prefix = _build_field(name, value)
        if self._lines is not None or self._added or self._has(prefix):
            self.remove(name)
        self._get_end().append(line)

    def add(self, name: bytes, value: bytes) -> None:
        """Append a value."""
        self._own()
        self._get_end().append(_build_field(name, value)[0])

    def remove(self, name: bytes) -> None:
        """Remove every value, if there is any."""
        prefix, length = name.lower() + b":", len(name) + 1
        lines = self._find(name)
        if lines:
            lines[:] = [line for line in lines if line[:length].lower() != prefix]

    def apply(self, changes: FieldChanges) -> None:
        """Apply changes one after the other; at once, if what they made of this head before was kept."""
        if self._is_own or self._parsed is None:
            self._apply(changes)
            return
        last = self._applied
        known = self._parsed.applied if last is None else last.next
        if known is None or known.changes is not changes:
            self._own()
            self._apply(changes)
            known = AppliedChanges(changes, self._lines, self._added)
            self._lines, self._added, self._is_own = None, [], False
            if len(known.text) <= KEPT_FIELDS_BYTES:
                if last is None:
                    self._parsed.applied = known
                else:
                    last.next = known
        self._applied = known

    def apply_each(self, changes: Iterable[FieldChange]) -> None:
        """Apply changes one after the other."""
        for action, name, value in changes:
            if action == "set":
                self.set(name, value)
            elif action == "add":
                self.add(name, value)
            elif action == "remove":
                self.remove(name)
            elif action == "list":
                self._list(name, value)
            else:
                raise ValueError(f"not a change of a field: {action[:80]!r}")

    def _apply(self, changes: FieldChanges) -> None:
        """Apply changes to the own fields; at once, if the head has none of theirs."""
        rendered = changes.rendered
        if not isinstance(rendered, RenderedChanges):
            rendered = changes.rendered = RenderedChanges(changes.changes)
        if self._lines is None and not self._added:
            for prefix in rendered.prefixes:
                if self._has(prefix):
                    break
            else:
                self._added = rendered.lines.copy()
                return
        self.apply_each(changes.changes)

    def _own(self) -> None:
        """Stop sharing a kept result."""
        applied = self._applied
        if applied is not None:
            self._lines = None if applied.lines is None else applied.lines.copy()
            self._added = applied.added.copy()
            self._applied = None
        self._is_own = True

    def _list(self, name: bytes, member: bytes) -> None:
        members = parse_list(b",".join(self.get_all(name)))
        if member.lower() not in members and b"*" not in members:
            self.add(name, member)

    def _find(self, name: bytes) -> list[bytes]:
        """Return the own lines that can include fields with this name."""
        self._own()
        if self._lines is None and not self._has(b"\n%b:" % name.lower()):
            return self._added
        return self.lines

    def _has(self, prefix: bytes) -> bool:
        """Search the head. `find` is faster than `in`, for which CPython first tries the prefix as an int."""
        if self._lower is None:
            self._lower = self._head.lower() if self._parsed is None else self._parsed.lower
        return self._lower.find(prefix) >= 0

    def _get_end(self) -> list[bytes]:
        return self._added if self._lines is None else self._lines


class RenderedChanges:
    """What changes do to a head that has none of their fields: it gets `lines`.

    A head in lower case without any of `prefixes` has none of the fields.
    """

    __slots__ = ("lines", "prefixes")

    def __init__(self, changes: Sequence[FieldChange]) -> None:
        """Raises ValueError for a field that cannot be set."""
        headers = Headers()
        headers.apply_each(changes)
        self.lines: list[bytes] = headers.lines
        self.prefixes = _find_prefixes({name.lower() for action, name, _ in changes if action != "add"})

    def __repr__(self) -> str:
        return f"<RenderedChanges {self.lines!r}>"


def _find_prefixes(names: Iterable[bytes]) -> tuple[bytes, ...]:
    """Return what to search for names of fields, which are in lower case: one text for names that begin alike."""
    alike: dict[bytes, list[bytes]] = {}
    for name in sorted(names):
        alike.setdefault(name[:SHARED_BYTES], []).append(b"\n%b:" % name)
    return tuple(os.path.commonprefix(found) or b"" for found in alike.values())  # noqa: RUF071 - these are no paths


def split_field(line: bytes) -> tuple[bytes, bytes]:
    """Split a field line into name and value."""
    name, _, value = line.partition(b":")
    return name, value.strip()


def split_fields(head: bytes, *, without: Container[bytes]) -> list[bytes]:
    """Split a checked head into its field lines, except those with the lower-case names in `without`."""
    lines = head.split(b"\r\n")[1:-2]
    return [line + b"\r\n" for line in lines if line[: line.index(b":")].lower() not in without]


def render_field(name: bytes, value: bytes) -> bytes:
    """Render a field line. Raises ValueError for fields that RFC 9110 section 5 forbids or that only the mesh sets."""
    if not is_token(name) or not is_field_value(value):
        raise ValueError(f"not a header field: {name!r}: {value[:80]!r}")
    if name.lower() in UNTOUCHABLE:
        raise ValueError(f"{name.decode()} can only be set by the mesh")
    return b"%b: %b\r\n" % (name, value)


def _build_field(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    """Return the rendered field line, and the bytes to search for in a lower-case head to find this field."""
    if len(name) + len(value) > CACHED_FIELD_LIMIT_BYTES:
        return _render_with_prefix(name, value)
    return _render_cached(name, value)


def _render_with_prefix(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    return render_field(name, value), b"\n%b:" % name.lower()


_render_cached: Final = lru_cache(maxsize=CACHED_FIELDS)(_render_with_prefix)
