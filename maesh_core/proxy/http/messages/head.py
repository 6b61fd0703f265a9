"""What the heads of requests and responses have in common: they are values, told apart by their fields.

Plain classes, since a frozen msgspec.Struct takes a third more of the engine's time in compiled form.
"""

from typing import ClassVar


class Head:
    """A head that was read. Subclasses list the names of their fields; nobody changes one."""

    __slots__ = ()

    fields: ClassVar[tuple[str, ...]] = ()

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and all(getattr(self, name) == getattr(other, name) for name in self.fields)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in self.fields)})"
