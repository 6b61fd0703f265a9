"""Findings about the cluster's objects: errors, which are refused, and notices, which have no effect.

Values only. A finding belongs to the object that must be changed, so that it reaches the person who can change it.
"""

from collections.abc import Iterable

import msgspec

from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import Resource
from maesh_core.process.printable import show_line


class Findings(msgspec.Struct, frozen=True):
    """Errors and notices of one object: each is one line for a person, without duplicates."""

    errors: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.errors or self.notices)

    @property
    def texts(self) -> tuple[str, ...]:
        """All texts, errors first."""
        return (*self.errors, *self.notices)


class ObjectFindings(msgspec.Struct, frozen=True, kw_only=True):
    """An object that a service's build examined: it concerns the service, even if nothing is wrong with it."""

    type: type[Resource]
    key: ObjectKey
    errors: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()


def join_findings(parts: Iterable[Findings | ObjectFindings]) -> Findings:
    """Join findings about one object; each text is one line, without duplicates, in the order of the parts."""
    found = tuple(parts)
    return Findings(
        errors=tuple(dict.fromkeys(show_line(text) for part in found for text in part.errors)),
        notices=tuple(dict.fromkeys(show_line(text) for part in found for text in part.notices)),
    )
