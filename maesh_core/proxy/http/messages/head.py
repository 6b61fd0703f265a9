"""The base of request and response heads: immutable values that are compared by their fields.

They are plain classes: frozen msgspec.Structs take a third more of the engine's time in compiled form.
"""

from typing import ClassVar


class Head:
    """A parsed head. Subclasses list the names of their fields; a head must not be modified."""

    __slots__ = ()

    fields: ClassVar[tuple[str, ...]] = ()

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and all(getattr(self, name) == getattr(other, name) for name in self.fields)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in self.fields)})"
