"""The base of request and response heads: immutable values that are compared by their fields.

They are plain classes: frozen msgspec.Structs take a third more of the engine's time in compiled form.
"""

from typing import ClassVar


class AppliedChanges:
    """What `changes` have made of the fields of a head, kept with that head for the next time.

    `lines` has all field lines if the head was split into them. Otherwise it is None, and `added` has those that follow
    the head's own. `text` is the one or the other, joined. `rendered` is the head to send with `added`; empty until it
    was rendered. `next` is what further changes have made of the result. The lists must not be modified.
    """

    __slots__ = ("added", "changes", "lines", "next", "rendered", "text")

    def __init__(self, changes: object, lines: list[bytes] | None, added: list[bytes]) -> None:
        self.changes = changes
        self.lines = lines
        self.added = added
        self.text = b"".join(added if lines is None else lines)
        self.rendered = b""
        self.next: AppliedChanges | None = None

    def __repr__(self) -> str:
        return f"<AppliedChanges {self.changes!r}>"


class Head:
    """A parsed head. Subclasses list the names of their fields; a head must not be modified.

    `head` is its bytes. What is found in them is kept, for those who ask again, and so is what the last `changes` of
    `Headers.apply` have made of its fields, in `applied`.
    """

    __slots__ = ("_lower", "applied", "head")

    fields: ClassVar[tuple[str, ...]] = ()

    def __init__(self, head: bytes) -> None:
        self.head = head
        self._lower: bytes | None = None
        self.applied: AppliedChanges | None = None

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and all(getattr(self, name) == getattr(other, name) for name in self.fields)

    @property
    def lower(self) -> bytes:
        """Its bytes in lower case, in which names of fields are searched."""
        lower = self._lower
        if lower is None:
            lower = self._lower = self.head.lower()
        return lower

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in self.fields)})"
