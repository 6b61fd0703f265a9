"""Checks whether the API server serves the kinds that the mesh watches, in versions that the mesh reads.

Takes the kinds of the core and of enabled plugins; returns outcomes, and the version of each kind that is served.
"""

from collections.abc import Collection, Mapping, Sequence

import msgspec

from maesh_core.controller.cluster_check.objects import Reader
from maesh_core.controller.cluster_check.outcomes import SectionBuilder
from maesh_core.controller.kubernetes.paths import build_path
from maesh_core.errors import MaeshError
from maesh_core.model.resources import ResourceKind


class _Resource(msgspec.Struct, frozen=True):
    name: str = ""


class _Resources(msgspec.Struct, frozen=True):
    resources: tuple[_Resource, ...] | None = None


class _Version(msgspec.Struct, frozen=True, rename="camel"):
    group_version: str = ""


class _Group(msgspec.Struct, frozen=True):
    versions: tuple[_Version, ...] | None = None


class ServedKinds:
    """What an API server serves; each document is read once."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._known: dict[str, frozenset[str]] = {}

    def __repr__(self) -> str:
        return f"<ServedKinds {sorted(self._known)}>"

    async def list_plurals(self, api_version: str) -> frozenset[str]:
        """List the resources of a version of the API; none if it is not served. Raises KubernetesError."""
        if api_version not in self._known:
            path = build_path(api_version, "").rstrip("/")
            found = await self._reader.find(path, _Resources)
            self._known[api_version] = frozenset(each.name for each in (found and found.resources) or ())
        return self._known[api_version]

    async def find_version(self, kind: ResourceKind) -> str:
        """Find the version in which a kind is read; empty if there is none. Raises KubernetesError."""
        for api_version in kind.api_versions:
            if kind.plural in await self.list_plurals(api_version):
                return api_version
        return ""

    async def list_versions(self, kind: ResourceKind) -> list[str]:
        """List the versions of the kind that are served, whether they are read or not. Raises KubernetesError."""
        group = kind.api_versions[0].rpartition("/")[0]
        if not group:
            return []
        found = await self._reader.find(f"/apis/{group}", _Group)
        versions = [each.group_version for each in (found and found.versions) or ()]
        return [version for version in versions if kind.plural in await self.list_plurals(version)]


async def check_kinds(
    section: SectionBuilder,
    reader: Reader,
    *,
    core: Sequence[ResourceKind],
    added: Sequence[ResourceKind],
    needed: Collection[str] = (),
    notes: Sequence[str] = (),
) -> Mapping[str, str]:
    """Check the kinds; returns the version of each that is served, by label.

    `core` are those of every mesh, `added` those of plugins, and `needed` the labels of those without which a plugin
    has no use: if they are missing, that is a problem. `notes` say which plugins are unknown.
    """
    served = ServedKinds(reader)
    found: dict[str, str] = {}
    wrong: list[str] = []
    try:
        for kind in (*core, *added):
            version = await served.find_version(kind)
            if version:
                found[kind.label] = version
            elif others := await served.list_versions(kind):
                versions = ", ".join(kind.api_versions)
                wrong.append(f"{kind.label}: {', '.join(others)} is served, the mesh reads {versions}")
                found[kind.label] = ""
    except MaeshError as error:
        section.fail("core-kinds", error)
        section.skip_rest("the API server does not say what it serves")
        return {}
    missing = _list_missing(core, found)
    section.judge("core-kinds", [f"{label} is not served" for label in missing])
    absent = [kind for kind in added if kind.label not in found]
    lost = [f"{kind.label} ({kind.api_versions[0]}) is not installed" for kind in absent if kind.label in needed]
    texts = [f"{kind.label} ({kind.api_versions[0]}) is not installed" for kind in absent if kind.label not in needed]
    if lost:
        section.judge("plugin-kinds", [*lost, *notes])
    else:
        section.warn("plugin-kinds", notes, found=texts)
    section.judge("kind-versions", wrong)
    return {label: version for label, version in found.items() if version}


def _list_missing(kinds: Sequence[ResourceKind], found: Collection[str]) -> list[str]:
    """List the kinds that are not served, and of which no other kind takes the place."""
    labels = {kind.type: kind.label for kind in kinds}
    pairs = {kind.label: labels[kind.fallback_of] for kind in kinds if kind.fallback_of is not None}
    pairs |= {usual: fallback for fallback, usual in pairs.items()}
    return [kind.label for kind in kinds if kind.label not in found and pairs.get(kind.label) not in found]
