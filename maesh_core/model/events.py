"""The events of discovery: objects were added, changed or removed, or could not be read.

Sources produce batches of events, and the snapshot applies each batch as a whole.
"""

from collections.abc import Sequence

import msgspec

from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import Resource


class Applied(msgspec.Struct, frozen=True):
    """An object was added or changed."""

    resource: Resource


class Deleted(msgspec.Struct, frozen=True):
    """An object was removed."""

    type: type[Resource]
    key: ObjectKey


class Replaced(msgspec.Struct, frozen=True):
    """A complete list of one type; the source's earlier objects that are not in it were removed.

    A type counts as listed after the source's first one; the first build waits for that.
    """

    type: type[Resource]
    resources: Sequence[Resource]


class Problem(msgspec.Struct, frozen=True):
    """Something at `origin` could not be read. With `text` None, the problem is gone.

    `kind`, `key` and `uid` identify the object, as far as they are known. A notice is about something that was read but
    has no effect.
    """

    origin: str
    text: str | None
    kind: str = ""
    key: ObjectKey | None = None
    uid: str = ""
    is_notice: bool = False


Event = Applied | Deleted | Replaced | Problem
