"""Messages between a worker and the parent about shared memory.

Contains only the values: worker/memory.py is the worker's side, memory_keeper.py the parent's, and neither imports the
other.
"""

from typing import Literal

import msgspec

GRAIN_BYTES = 64
"""Regions start at multiples of this."""
DESCRIPTORS_VARIABLE = "MAESH_NODE_MEMORY"
"""The variable with a worker's slot and its inherited descriptors, those of its socket and of the arena."""


class MemoryRequest(msgspec.Struct, frozen=True, array_like=True):
    """A worker's message to the parent. `settle` means that its first configuration was applied."""

    verb: Literal["acquire", "release", "settle"]
    name: str = ""
    size: int = 0


class MemoryReply(msgspec.Struct, frozen=True, array_like=True):
    """The offset of a region in the arena; -1 if there is no room."""

    offset: int
