"""The base of request and response heads: immutable values that are compared by their fields.

They are plain classes: frozen msgspec.Structs take a third more of the engine's time in compiled form.
"""

from typing import ClassVar


class Head:
    """A parsed head. Subclasses list the names of their fields; a head must not be modified.

    `head` is its bytes. What is found in them is kept, for those who ask again.
    """

    __slots__ = ("_lower", "head")

    fields: ClassVar[tuple[str, ...]] = ()

    def __init__(self, head: bytes) -> None:
        self.head = head
        self._lower: bytes | None = None

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
