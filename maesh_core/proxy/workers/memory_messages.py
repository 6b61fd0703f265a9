"""What a worker and the parent say to each other about the memory that workers share.

Only the values: worker/memory.py is the worker's side, memory_keeper.py the parent's, and neither needs the other's
imports.
"""

from typing import Literal

import msgspec

GRAIN_BYTES = 64
"""Regions begin at multiples of this."""
DESCRIPTORS_VARIABLE = "MAESH_NODE_MEMORY"
"""Tells a worker its slot, and the descriptors that it has inherited: those of its socket and of the arena."""


class Wish(msgspec.Struct, frozen=True, array_like=True):
    """What a worker tells the parent: `settle` says that the first configuration is in force."""

    verb: Literal["take", "leave", "settle"]
    name: str = ""
    size: int = 0


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """Where in the arena a region begins; -1 when there is no room."""

    offset: int
