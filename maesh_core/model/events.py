"""What discovery tells: that objects appeared, changed or went away, and what it could not read.

Sources produce batches of these; the snapshot takes them. A batch is applied as one.
"""

from collections.abc import Sequence

import msgspec

from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import Resource


class Applied(msgspec.Struct, frozen=True):
    """An object was added or changed."""

    resource: Resource


class Deleted(msgspec.Struct, frozen=True):
    """An object went away."""

    type: type[Resource]
    key: ObjectKey


class Replaced(msgspec.Struct, frozen=True):
    """A whole list of one type: what the source told earlier and is not in it has gone. The first marks it LISTED."""

    type: type[Resource]
    resources: Sequence[Resource]


class Problem(msgspec.Struct, frozen=True):
    """Something at `origin` could not be read. With `text` None, it can be read now.

    `kind`, `key` and `uid` name the object that it is about, as far as they are known. A notice is about what could be
    read but has no effect.
    """

    origin: str
    text: str | None
    kind: str = ""
    key: ObjectKey | None = None
    uid: str = ""
    is_notice: bool = False


Event = Applied | Deleted | Replaced | Problem
