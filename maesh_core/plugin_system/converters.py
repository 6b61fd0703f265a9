"""The interface of converters, which `maesh convert NAME` runs: objects of a plugin's kinds in, other objects out.

Values and interfaces only. The command line reads the manifests, calls the converter, and prints the result as YAML; it
neither needs a controller nor changes anything.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from maesh_core.model.resources import Resource, ResourceKind
from maesh_core.plugin_system.interfaces import TopologyView

# --- converters ------------------------------------------------------------------------------------------------------


class ConvertedObject(msgspec.Struct, frozen=True, kw_only=True):
    """An object to print, with notes for people: where it comes from, and where its meaning differs."""

    value: Mapping[str, Any]
    """As in a manifest, with apiVersion, kind and metadata."""
    notes: tuple[str, ...] = ()


class Conversion(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a converter. `failures` say what it could not convert; `notes` concern all objects."""

    objects: tuple[ConvertedObject, ...] = ()
    notes: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()


class Converter(Protocol):
    """Converts objects of some kinds to objects of other kinds."""

    @property
    def kinds(self) -> Sequence[ResourceKind]:
        """The kinds that it reads besides the core's."""

    def convert(self, view: TopologyView, resources: Sequence[Resource]) -> Conversion:
        """Convert objects; pure. `resources` are all objects that were read, in order. Raising MaeshError ends it."""
