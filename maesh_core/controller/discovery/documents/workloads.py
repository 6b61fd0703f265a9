"""Makes a pod of each workload, such as a Deployment, for commands that need no cluster.

A repository of manifests has workloads, and no pods or endpoints: a cluster creates these. Takes the resources of a
file; replaces each workload by one pod with the labels, account and ports of its template, and with an address that
depends only on its name. The addresses are reserved ones (RFC 1112 section 4), which no network uses.
"""

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from ipaddress import IPv4Address
from typing import Final

import msgspec

from maesh_core.controller.discovery.documents.parsing import LoadedResource
from maesh_core.controller.discovery.documents.validation import fill_defaults, find_faults
from maesh_core.errors import ManifestError
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import (
    ObjectMeta,
    OwnerReference,
    Pod,
    PodCondition,
    PodSpec,
    PodStatus,
    Resource,
    ResourceKind,
)

FIRST_ADDRESS: Final = int(IPv4Address("240.0.0.0"))
ADDRESS_BITS: Final = 28


class TemplateMeta(msgspec.Struct, frozen=True, kw_only=True):
    """`metadata` of a template; it has no name."""

    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class PodTemplate(msgspec.Struct, frozen=True, kw_only=True):
    """The template of the pods of a workload."""

    metadata: TemplateMeta = TemplateMeta()
    spec: PodSpec = PodSpec()


class JobTemplateSpec(msgspec.Struct, frozen=True, kw_only=True):
    """`spec.jobTemplate.spec` of a CronJob."""

    template: PodTemplate | None = None


class JobTemplate(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`spec.jobTemplate` of a CronJob."""

    spec: JobTemplateSpec = JobTemplateSpec()


class WorkloadSpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`spec` of a workload, as far as its pods depend on it."""

    replicas: int | None = None
    template: PodTemplate | None = None
    job_template: JobTemplate = JobTemplate()


class Workload(Resource, frozen=True):
    """A Deployment, StatefulSet, DaemonSet, ReplicaSet, Job or CronJob."""

    spec: WorkloadSpec = WorkloadSpec()


WORKLOAD_KINDS: Final = tuple(
    ResourceKind(name=name, plural=f"{name.lower()}s", api_versions=(version,), type=Workload)
    for version, names in (
        ("apps/v1", ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet")),
        ("batch/v1", ("Job", "CronJob")),
    )
    for name in names
)


class PodMaker:
    """Makes pods; remembers their names and addresses, so that no two pods have the same."""

    def __init__(self, pod_kind: ResourceKind) -> None:
        self._pod_kind = pod_kind
        self._owners: dict[ObjectKey, tuple[str, ObjectKey]] = {}
        self._addresses: dict[int, ObjectKey] = {}

    def __repr__(self) -> str:
        return f"<PodMaker {len(self._owners)} pods>"

    def is_made(self, key: ObjectKey) -> bool:
        """Whether a pod was made here."""
        return key in self._owners

    def replace(
        self, resources: Sequence[LoadedResource]
    ) -> tuple[tuple[LoadedResource, ...], tuple[ManifestError, ...]]:
        """Replace the workloads among resources by their pods; return what is wrong with their templates, too."""
        errors: list[ManifestError] = []
        return tuple(self._replace(resources, errors)), tuple(errors)

    def _replace(self, resources: Sequence[LoadedResource], errors: list[ManifestError]) -> Iterator[LoadedResource]:
        for each in resources:
            if not isinstance(each.resource, Workload):
                yield each
                continue
            pod = self._make(each.resource, each.kind.name)
            faults = [] if pod is None else list(find_faults(pod, self._pod_kind))
            if faults:
                kind, key = each.kind.name, each.resource.key
                text = f"{kind} {key.name}: its pods: {'; '.join(faults)}"
                errors.append(ManifestError(each.origin, text, kind=kind, key=key))
            elif pod is not None:
                yield LoadedResource(pod, self._pod_kind, each.origin)

    def _make(self, workload: Workload, kind: str) -> Pod | None:
        """Make the pod of a workload; None if another workload owns it, or if it has no template."""
        template = workload.spec.template or workload.spec.job_template.spec.template
        if template is None or workload.metadata.owner_references:
            return None
        key = self._name(workload, kind)
        is_ready = workload.spec.replicas != 0
        pod = Pod(
            metadata=ObjectMeta(
                name=key.name,
                namespace=key.namespace,
                labels=template.metadata.labels,
                annotations=template.metadata.annotations,
                owner_references=(OwnerReference(kind=kind, name=workload.metadata.name),),
            ),
            spec=template.spec,
            status=PodStatus(
                pod_ip=self._choose_address(key),
                phase="Running",
                conditions=(PodCondition(type="Ready", status="True" if is_ready else "False"),),
            ),
        )
        made: Pod = fill_defaults(pod, self._pod_kind)
        return made

    def _name(self, workload: Workload, kind: str) -> ObjectKey:
        """Name the pod as its workload; if another kind of workload has the name, the kind is added."""
        owner, key = (kind, workload.key), workload.key
        if self._owners.setdefault(key, owner) != owner:
            key = ObjectKey(key.namespace, f"{key.name}-{kind.lower()}")
            self._owners[key] = owner
        return key

    def _choose_address(self, key: ObjectKey) -> str:
        digest = blake2b(f"{key.namespace}/{key.name}".encode(), digest_size=8).digest()
        number = int.from_bytes(digest, "big") % (1 << ADDRESS_BITS)
        while self._addresses.setdefault(number, key) != key:
            number = (number + 1) % (1 << ADDRESS_BITS)
        return str(IPv4Address(FIRST_ADDRESS + number))
