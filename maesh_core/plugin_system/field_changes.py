"""Changes of header fields that a middleware makes to many messages, for `Headers.apply`.

This module does not read messages. `Headers` stores with the changes what it has rendered for them, and reuses it.
"""

from collections.abc import Iterable

FieldChange = tuple[str, bytes, bytes]
"""An action, the name of a field, and a value; `remove` has no use for the value.

`set`, `add` and `remove` do what the methods of `Headers` do. `list` adds a member to a field that is a list, such as
Vary, unless the list has that member or `*`.
"""


class FieldChanges:
    """Changes, in their order. A middleware builds them once, since the first use of each is slower.

    `rendered` belongs to the implementation of `Headers`.
    """

    __slots__ = ("changes", "rendered")

    def __init__(self, changes: Iterable[FieldChange]) -> None:
        self.changes = tuple(changes)
        self.rendered: object = None

    def __repr__(self) -> str:
        return f"<FieldChanges {self.changes!r}>"
