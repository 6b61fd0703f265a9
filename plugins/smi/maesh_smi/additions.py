"""What is found about the splits of a service. Not compiled: mypyc drops the keywords of a class."""

from collections.abc import Mapping
from typing import Any

import msgspec

from maesh_core.plugin import HttpMatch


class SplitView(msgspec.Struct, frozen=True, kw_only=True):
    """A split as the topology shows it."""

    name: str
    namespace: str
    service: str
    backends: tuple[Mapping[str, Any], ...] = ()
    matches: tuple[HttpMatch, ...] = ()
    errors: tuple[str, ...] = ()


class UnreadSplits(msgspec.Struct, frozen=True, kw_only=True):
    """Unreadable splits of a service or of one that its traffic passes, and splits that name unreadable route groups.

    They are detached, because their branches are unknown. Access control allows no client meanwhile.
    """

    names: tuple[str, ...]
