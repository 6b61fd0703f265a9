"""Runs a converter over manifests: paths in, converted objects and what is wrong with the manifests out.

Reads the files as a controller with manifests does, but once. Connects to nothing, and starts nothing.
"""

from collections.abc import Iterable, Sequence

import msgspec

from maesh_core.controller.discovery.documents.parsing import KindTable, Manifest, parse_manifest
from maesh_core.controller.discovery.manifests.files import build_root, list_files, read_content
from maesh_core.controller.resources.kinds import CORE_KINDS
from maesh_core.controller.resources.snapshot import Snapshot
from maesh_core.controller.topology.builder import BuilderView
from maesh_core.controller.topology.rules import TopologyRules
from maesh_core.errors import ManifestError
from maesh_core.model.events import Replaced
from maesh_core.model.resources import Resource, ResourceKind
from maesh_core.plugin_system.converters import Conversion, Converter


class ConversionReport(msgspec.Struct, frozen=True, kw_only=True):
    """A conversion, and the errors of manifests; objects with errors take no part in it."""

    conversion: Conversion
    errors: tuple[str, ...] = ()


def run_conversion(
    converter: Converter, paths: Sequence[str], *, is_recursive: bool, default_mode: str
) -> ConversionReport:
    """Read the manifests below paths, and convert them. Raises ManifestError if a path cannot be read."""
    kinds = _join_kinds(converter.kinds)
    manifests = [
        parse_manifest(read_content(path, shown)[1], KindTable(kinds), path=shown)
        for path, shown in _list_paths(paths, is_recursive=is_recursive)
    ]
    resources = _list_resources(manifests)
    snapshot = Snapshot(kinds)
    snapshot.apply(
        [
            Replaced(type=kind.type, resources=tuple(each for each in resources if type(each) is kind.type))
            for kind in kinds
        ],
        source="convert",
    )
    rules = TopologyRules(default_mode=default_mode)
    conversion = converter.convert(BuilderView(snapshot.view(), rules), resources)
    errors = [str(error) for manifest in manifests for error in (*manifest.errors, *manifest.faults)]
    return ConversionReport(conversion=conversion, errors=tuple(errors))


def _join_kinds(kinds: Iterable[ResourceKind]) -> list[ResourceKind]:
    known = {kind.type for kind in CORE_KINDS}
    return [*CORE_KINDS, *(kind for kind in kinds if kind.type not in known)]


def _list_paths(paths: Sequence[str], *, is_recursive: bool) -> list[tuple[str, str]]:
    """List the files below paths, sorted, with their names for messages."""
    found: dict[str, str] = {}
    for given in paths:
        root = build_root(given, is_recursive=is_recursive)
        try:
            files = sorted(list_files(root))
        except OSError as error:
            raise ManifestError(given, f"cannot be read: {error.strerror}") from error
        if not files:
            raise ManifestError(given, "has no manifests" if root.is_folder else "does not exist")
        found.update({path: root.show(path) for path in files})
    return list(found.items())


def _list_resources(manifests: Iterable[Manifest]) -> list[Resource]:
    """List the objects, of several with one name the last."""
    found = {
        (type(each.resource), each.resource.key): each.resource for manifest in manifests for each in manifest.resources
    }
    return list(found.values())
