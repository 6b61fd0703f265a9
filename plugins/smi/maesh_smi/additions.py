"""What is found about the splits of a service. It stays interpreted: mypyc drops the keywords of a class."""

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
    """Splits of a service, or of one that its traffic passes, which cannot be read, or that name such a route group.

    They are detached: what they would send elsewhere is not known. Access control lets nobody in meanwhile.
    """

    names: tuple[str, ...]
