"""The kinds of Kubernetes objects that the mesh itself watches, and their indexes.

Defines `CORE_KINDS`. Plugins declare further kinds through `maesh_resource_kinds`; their indexes work the same way. No
policy: the readers decide which objects are ignored. In a cluster, reading a kind also needs permission: the rules
`maesh.rules.watch` in charts/maesh/templates/_rules.tpl.
"""

from collections.abc import Iterable

import msgspec

from maesh_core.model.addresses import parse_address
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import (
    NAMESPACES,
    Endpoints,
    EndpointSlice,
    Namespace,
    Pod,
    ResourceKind,
    Service,
    ServiceAccount,
)

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
"""The label of an EndpointSlice with the name of its Service in the same namespace (Kubernetes API)."""

SERVICE_INDEX = "service"
"""EndpointSlices by the ObjectKey of their Service."""

LABEL_INDEX = "label"
"""Pods by each of their labels; build the value with `build_label_value`."""


ACCOUNT_INDEX = "account"
"""Pods by the ObjectKey of their service account."""

ADDRESS_INDEX = "address"
"""Pods by their addresses in canonical form, without those that have ended: their addresses may belong to other pods.

Services by their cluster addresses in the same form.
"""

TUNNEL_INDEX = "tunnel"
"""The mesh's proxy pods that accept connections from other nodes, which have TUNNEL_LABEL.

By their namespace, and by the name of their node as `namespace/node`.
"""

TUNNEL_LABEL = "maesh.io/tunnel"

NAMESPACE_INDEX = "namespace"
"""Services by their namespace."""

_ENDED = frozenset({"Succeeded", "Failed"})


def watch_namespaces(kinds: Iterable[ResourceKind]) -> tuple[ResourceKind, ...]:
    """Return the kinds with Namespaces watched, whose annotations only transports and some plugins read."""
    return tuple(msgspec.structs.replace(kind, is_watched=True) if kind.type is Namespace else kind for kind in kinds)


def build_label_value(namespace: str, key: str, value: str) -> str:
    """Build the value of a label for the index `label` of Pods: `namespace/key=value`.

    A namespace contains no `/` and a label's key no `=`, so the value is unambiguous.
    """
    return f"{namespace}/{key}={value}"


def _index_by_namespace(item: Service) -> Iterable[str]:
    return (item.metadata.namespace,)


def _index_slice_by_service(item: EndpointSlice) -> Iterable[ObjectKey]:
    name = item.metadata.labels.get(SERVICE_NAME_LABEL)
    return (ObjectKey(item.metadata.namespace, name),) if name else ()


def _index_pod_by_label(pod: Pod) -> Iterable[str]:
    namespace = pod.metadata.namespace
    return [build_label_value(namespace, key, value) for key, value in pod.metadata.labels.items()]


def _index_pod_by_account(pod: Pod) -> Iterable[ObjectKey]:
    return () if has_ended(pod) else (ObjectKey(pod.metadata.namespace, pod.spec.service_account_name),)


def _index_pod_by_address(pod: Pod) -> Iterable[str]:
    return () if has_ended(pod) else pod.addresses


def _index_pod_by_tunnel(pod: Pod) -> Iterable[str]:
    namespace = pod.metadata.namespace
    return (namespace, f"{namespace}/{pod.spec.node_name}") if pod.metadata.labels.get(TUNNEL_LABEL) else ()


def _index_service_by_address(service: Service) -> Iterable[str]:
    texts = dict.fromkeys((service.spec.cluster_ip, *service.spec.cluster_ips))
    return [address for text in texts if (address := parse_address(text)) is not None]


def has_ended(pod: Pod) -> bool:
    """Whether its containers have stopped for good: its addresses may belong to other pods."""
    return pod.status.phase in _ENDED


CORE_KINDS: tuple[ResourceKind, ...] = (
    ResourceKind(
        name="Service",
        plural="services",
        api_versions=("v1",),
        type=Service,
        indexes={NAMESPACE_INDEX: _index_by_namespace, ADDRESS_INDEX: _index_service_by_address},
    ),
    ResourceKind(
        name="EndpointSlice",
        plural="endpointslices",
        api_versions=("discovery.k8s.io/v1", "discovery.k8s.io/v1beta1"),
        type=EndpointSlice,
        indexes={SERVICE_INDEX: _index_slice_by_service},
    ),
    ResourceKind(name="Endpoints", plural="endpoints", api_versions=("v1",), type=Endpoints, fallback_of=EndpointSlice),
    ResourceKind(
        name="Pod",
        plural="pods",
        api_versions=("v1",),
        type=Pod,
        indexes={
            LABEL_INDEX: _index_pod_by_label,
            ACCOUNT_INDEX: _index_pod_by_account,
            ADDRESS_INDEX: _index_pod_by_address,
            TUNNEL_INDEX: _index_pod_by_tunnel,
        },
    ),
    msgspec.structs.replace(NAMESPACES, is_watched=False),
    ResourceKind(
        name="ServiceAccount", plural="serviceaccounts", api_versions=("v1",), type=ServiceAccount, is_watched=False
    ),
)
