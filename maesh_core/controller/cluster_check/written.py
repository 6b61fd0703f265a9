"""Checks what the leader writes to the cluster: shadow services, and statuses of objects.

Takes the services of the mesh and the objects of the API server; returns outcomes.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import msgspec

from maesh_core.controller.cluster.shadow_services import SELECTOR
from maesh_core.controller.cluster_check.controllers import MeshService
from maesh_core.controller.cluster_check.dns import Shadow
from maesh_core.controller.cluster_check.objects import Meta, Reader
from maesh_core.controller.cluster_check.outcomes import SectionBuilder
from maesh_core.controller.kubernetes.paths import build_path
from maesh_core.errors import KubernetesError, MaeshError
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import ResourceKind
from maesh_core.model.shadow_names import LABELS, NAME_ANNOTATION, NAMESPACE_ANNOTATION, build_name
from maesh_core.plugin_system.hookspecs import CONTROLLER_NAME

PAGE_SIZE: Final = 500
"""Objects of one request."""


class _Spec(msgspec.Struct, frozen=True, rename="camel"):
    cluster_ip: str = msgspec.field(default="", name="clusterIP")
    selector: Mapping[str, str] | None = None


class _Shadow(msgspec.Struct, frozen=True):
    metadata: Meta = Meta()
    spec: _Spec = _Spec()


class _ListMeta(msgspec.Struct, frozen=True):
    continue_: str = msgspec.field(default="", name="continue")


class _Shadows(msgspec.Struct, frozen=True):
    items: tuple[_Shadow, ...] | None = None


class _Object(msgspec.Struct, frozen=True):
    metadata: Meta = Meta()
    status: Any = None


class _Objects(msgspec.Struct, frozen=True):
    metadata: _ListMeta = _ListMeta()
    items: tuple[_Object, ...] | None = None


class WrittenKind(msgspec.Struct, frozen=True):
    """A kind whose statuses the mesh writes: the version that is served, and the field of the status."""

    kind: ResourceKind
    api_version: str
    field: str


async def check_shadow_services(
    section: SectionBuilder, reader: Reader, namespace: str, services: Sequence[MeshService] | None
) -> list[Shadow]:
    """Check the shadow services of these services, None if they are unknown; returns those that are there."""
    selector = ",".join(f"{name}={value}" for name, value in LABELS.items())
    try:
        found = await reader.read(
            build_path("v1", "services", namespace=namespace), _Shadows, {"labelSelector": selector}
        )
    except MaeshError as error:
        section.fail("shadow-services", error)
        return []
    by_name = {each.metadata.name: each for each in found.items or ()}
    wrong = [
        f"{each.metadata.name} selects {dict(each.spec.selector or {})}"
        for each in by_name.values()
        if each.spec.selector != SELECTOR
    ]
    if services is None:
        section.skip("shadow-services", "no controller answers")
    else:
        _compare(section, namespace, services, by_name)
    section.judge("shadow-endpoints", wrong)
    return [shadow for each in by_name.values() if (shadow := _read_shadow(each)) is not None]


def _compare(
    section: SectionBuilder, namespace: str, services: Sequence[MeshService], by_name: Mapping[str, _Shadow]
) -> None:
    names = {build_name(namespace, ObjectKey(each.namespace, each.name)): each for each in services}
    missing = [
        f"{each.name}.{each.namespace} has no shadow service {name}"
        for name, each in names.items()
        if name not in by_name and not each.errors  # without a valid traffic type, it gets none
    ]
    count = f"{len(by_name)} shadow service{'' if len(by_name) == 1 else 's'}"
    section.judge("shadow-services", missing, found=[count])
    orphans = [name for name, each in by_name.items() if name not in names and not each.metadata.deletion_timestamp]
    section.warn("orphaned-shadow-services", orphans)


def _read_shadow(found: _Shadow) -> Shadow | None:
    """Return what DNS must answer; None if the shadow service has no address, or does not name its service."""
    annotations = found.metadata.annotations or {}
    name, namespace = annotations.get(NAME_ANNOTATION, ""), annotations.get(NAMESPACE_ANNOTATION, "")
    address = found.spec.cluster_ip
    return Shadow(name, namespace, address) if name and namespace and address not in ("", "None") else None


async def check_statuses(section: SectionBuilder, reader: Reader, kinds: Sequence[WrittenKind]) -> None:
    """Check that the mesh's entries in the statuses of objects are of their current generations.

    An object without such an entry may be one of another controller.
    """
    if not kinds:
        return
    late, count = [], 0
    try:
        for written in kinds:
            for each in await _list_objects(reader, written):
                generations = _list_generations(each.status, written.field)
                count += bool(generations)
                if any(generation < each.metadata.generation for generation in generations):
                    name = f"{each.metadata.namespace}/{each.metadata.name}"
                    late.append(f"{written.kind.name} {name}: generation {each.metadata.generation} has no status yet")
    except MaeshError as error:
        section.fail("statuses-written", error)
        return
    section.judge("statuses-written", late, found=[f"{count} object{'' if count == 1 else 's'}"])


async def _list_objects(reader: Reader, written: WrittenKind) -> list[_Object]:
    path = build_path(written.api_version, written.kind.plural)
    found: list[_Object] = []
    after, has_restarted = "", False
    while True:
        query = {"limit": str(PAGE_SIZE), **({"continue": after} if after else {})}
        try:
            page = await reader.read(path, _Objects, query)
        except KubernetesError as error:
            if error.status == HTTPStatus.GONE and after and not has_restarted:
                found, after, has_restarted = [], "", True  # the token of the page has expired
                continue
            raise
        found += page.items or ()
        after = page.metadata.continue_
        if not after:
            return found


def _list_generations(status: Any, field: str) -> list[int]:
    """List the generations that the mesh's entries are about, as far as they say so."""
    entries = status.get(field) if isinstance(status, dict) else None
    ours = [
        each for each in _as_list(entries) if isinstance(each, dict) and each.get("controllerName") == CONTROLLER_NAME
    ]
    conditions = [each for entry in ours for each in _as_list(entry.get("conditions")) if isinstance(each, dict)]
    found = [each.get("observedGeneration") for each in conditions]
    return [generation for generation in found if isinstance(generation, int)]


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
