"""Kubernetes objects, reduced to the fields that the mesh reads.

Frozen structs that decode directly from the API server's JSON (unknown fields are ignored, names are camelCase). They
contain what was written, with the defaults that an API server would set; nothing is checked here.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from maesh_core.model.addresses import parse_address
from maesh_core.model.keys import ObjectKey


class _Struct(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, gc=False):
    """Base of all Kubernetes structs.

    Objects decoded from JSON contain no reference cycles, so the garbage collector skips them: with 50,000 pods its
    passes would take longer than the work between them.
    """


class OwnerReference(_Struct, frozen=True):
    """The owner of an object."""

    kind: str = ""
    name: str = ""
    uid: str = ""


class ObjectMeta(_Struct, frozen=True):
    """The part of `metadata` that the mesh reads. Annotation and label values are text.

    `generation` counts the changes of a custom resource except those of its status; it is 0 in most manifests.
    `creation_timestamp` is as written, an RFC 3339 time, and empty in most manifests.
    """

    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str = ""
    deletion_timestamp: str | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: tuple[OwnerReference, ...] = ()


class Resource(_Struct, frozen=True):
    """Any Kubernetes object; the kinds of plugins derive from it."""

    metadata: ObjectMeta

    @property
    def key(self) -> ObjectKey:
        """Namespace and name."""
        return ObjectKey(self.metadata.namespace, self.metadata.name)


UNCHECKED = ("it was not read by its kind's own reader",)


class CheckedResource(Resource, frozen=True):
    """An object whose unknown fields are faults; one with `faults` shows what it concerns, and must not be used.

    Only the `read` function of its kind returns one without faults; one that is decoded in any other way has a fault.
    """

    faults: tuple[str, ...] = UNCHECKED


class ServicePort(_Struct, frozen=True):
    """A port of a Service. `target_port` is a number, the name of a container port, or None for `port` itself.

    `app_protocol` is empty if there is none.
    """

    port: int
    name: str = ""
    protocol: str = "TCP"
    target_port: int | str | None = None
    app_protocol: str = ""


class ServiceSpec(_Struct, frozen=True):
    """`cluster_ip` is the text `None` for a headless service, and empty if none is assigned yet."""

    type: str = "ClusterIP"
    cluster_ip: str = msgspec.field(default="", name="clusterIP")
    cluster_ips: tuple[str, ...] = msgspec.field(default=(), name="clusterIPs")
    ports: tuple[ServicePort, ...] = ()
    selector: dict[str, str] = {}
    external_name: str = ""
    ip_families: tuple[str, ...] = ()
    ip_family_policy: str = ""
    traffic_distribution: str = ""


class Service(Resource, frozen=True):
    """v1 Service."""

    spec: ServiceSpec = ServiceSpec()


class ObjectReference(_Struct, frozen=True):
    """A reference to another object, here always the Pod behind an address."""

    kind: str = ""
    namespace: str = ""
    name: str = ""


class EndpointConditions(_Struct, frozen=True):
    """`None` means unknown, which consumers treat as ready, serving and not terminating (Kubernetes API)."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class Endpoint(_Struct, frozen=True):
    """One endpoint of a slice; all its addresses mean the same endpoint."""

    addresses: tuple[str, ...] = ()
    conditions: EndpointConditions = EndpointConditions()
    target_ref: ObjectReference | None = None
    node_name: str = ""


class EndpointPort(_Struct, frozen=True):
    """A port that every endpoint of a slice or subset serves. `port` None means all ports.

    Its `appProtocol` is not read: that of the Service's port is authoritative.
    """

    name: str = ""
    protocol: str = "TCP"
    port: int | None = None


class EndpointSlice(Resource, frozen=True):
    """discovery.k8s.io/v1 EndpointSlice. The label `kubernetes.io/service-name` names its service."""

    address_type: str = "IPv4"
    endpoints: tuple[Endpoint, ...] = ()
    ports: tuple[EndpointPort, ...] = ()


class EndpointAddress(_Struct, frozen=True):
    """One address of an Endpoints subset."""

    ip: str
    target_ref: ObjectReference | None = None
    node_name: str = ""


class EndpointSubset(_Struct, frozen=True):
    """Addresses with the same ports; only ready ones are read."""

    addresses: tuple[EndpointAddress, ...] = ()
    ports: tuple[EndpointPort, ...] = ()


class Endpoints(Resource, frozen=True):
    """v1 Endpoints, with the name of its service."""

    subsets: tuple[EndpointSubset, ...] = ()


class ContainerPort(_Struct, frozen=True):
    """A declared port of a container."""

    container_port: int
    name: str = ""
    protocol: str = "TCP"


class Container(_Struct, frozen=True):
    """A container with its named ports."""

    ports: tuple[ContainerPort, ...] = ()


class PodSpec(_Struct, frozen=True):
    """The service account of a pod, its containers, and the node on which it runs, once it is scheduled."""

    service_account_name: str = "default"
    node_name: str = ""
    host_network: bool = False
    containers: tuple[Container, ...] = ()


class PodCondition(_Struct, frozen=True):
    """One condition; the mesh reads the one of type `Ready`."""

    type: str
    status: str = "Unknown"


class PodAddress(_Struct, frozen=True):
    """One address of a pod, of either family."""

    ip: str = ""


class PodStatus(_Struct, frozen=True):
    """`pod_ip` is empty until the pod has an address, `start_time` until its node has accepted it."""

    pod_ip: str = msgspec.field(default="", name="podIP")
    pod_ips: tuple[PodAddress, ...] = msgspec.field(default=(), name="podIPs")
    phase: str = ""
    start_time: str = ""
    conditions: tuple[PodCondition, ...] = ()


class Pod(Resource, frozen=True):
    """v1 Pod."""

    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def addresses(self) -> tuple[str, ...]:
        """Its addresses in canonical form, the first one first; invalid ones are left out."""
        texts = (self.status.pod_ip, *(each.ip for each in self.status.pod_ips))
        return tuple(dict.fromkeys(found for text in texts if text and (found := parse_address(text)) is not None))


class Namespace(Resource, frozen=True):
    """v1 Namespace, which is cluster-scoped."""


class ServiceAccount(Resource, frozen=True):
    """v1 ServiceAccount."""


ResourceType = type[Resource]

ENVELOPE = frozenset({"apiVersion", "kind", "metadata", "status"})
"""The fields that every Kubernetes object may have; `read` does not get them."""


class _Envelope(msgspec.Struct, frozen=True):
    metadata: ObjectMeta


class ResourceKind(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of Kubernetes object that is watched: one of the core's, or one that a plugin declares.

    `api_versions` are `version` or `group/version`, the preferred one first; all of them decode to `type`. An index
    maps an object to the values under which `view.find(type, index, value)` finds it.

    An object with `needs_reference` has an effect only if another object refers to it. The kinds that refer to others
    have an index `REFERENCES`, with values built by `build_reference`.

    `fallback_of` names a type: this kind is read from a cluster only if that type is absent. A kind that is not
    `is_watched` is only accepted in manifests: nothing reads it.

    `shown_name` replaces `name` in messages, metrics and reports; set it, as `NAME.GROUP`, if a kind of another group
    has the same name.

    `read`, if `type` is a CheckedResource, builds an object from its metadata and its other fields, as plain values. It
    raises nothing: what it cannot read is a fault of the object.
    """

    name: str
    plural: str
    api_versions: tuple[str, ...]
    type: type[Resource]
    is_namespaced: bool = True
    indexes: Mapping[str, Callable[[Any], Iterable[str | ObjectKey]]] = {}
    fallback_of: ResourceType | None = None
    is_watched: bool = True
    needs_reference: bool = False
    read: Callable[[ObjectMeta, Mapping[str, object]], CheckedResource] | None = None
    shown_name: str = ""

    @property
    def label(self) -> str:
        """The name that no other kind has: `shown_name`, or `name`."""
        return self.shown_name or self.name

    def decode(self, value: Any) -> Resource:
        """Build an object of this kind from plain values. Raises msgspec.ValidationError, which names the field."""
        if self.read is None:
            return msgspec.convert(value, self.type)
        metadata = msgspec.convert(value, _Envelope).metadata
        try:
            return self.read(metadata, {name: item for name, item in value.items() if name not in ENVELOPE})
        except msgspec.ValidationError:
            raise
        except Exception as error:  # a plugin's code may raise anything: only this object is affected
            raise msgspec.ValidationError(f"it could not be read: {type(error).__name__}: {error}") from error


REFERENCES = "references"
"""The index that finds a kind's objects by the objects that they refer to."""


def build_reference(kind: str, key: ObjectKey) -> str:
    """Build the value of an object in the index `references`: `kind namespace/name`."""
    return f"{kind} {key.namespace}/{key.name}"


NAMESPACES = ResourceKind(
    name="Namespace", plural="namespaces", api_versions=("v1",), type=Namespace, is_namespaced=False
)
"""The kind of Namespaces: the core watches them if a transport is enabled, or if a plugin declares this kind."""
