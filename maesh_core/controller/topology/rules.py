"""Which of the cluster's objects the mesh leaves alone.

Takes an object and the rules that the process was started with. Judged per object: an ignored pod behind a watched
service gets no traffic.
"""

import msgspec

from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import Resource, Service

_IGNORED_NAMESPACE = "kube-system"
_IGNORED_SERVICE = ObjectKey("default", "kubernetes")
_APP_LABEL = "app"
_IGNORED_APPS = frozenset({"maesh", "jaeger"})


class TopologyRules(msgspec.Struct, frozen=True, kw_only=True):
    """What was said at start about the whole mesh.

    `default_mode` is the traffic type of services that name none. `mesh_namespace` is where the mesh itself lives; it
    is a namespace like any other to these rules. No `watched_namespaces` means all; ignoring beats watching.
    `is_pod_fallback` finds the servers of a service that has neither EndpointSlices nor Endpoints among the Pods that
    its selector matches: nobody but a cluster writes the former two, and manifests hold what people write.
    """

    default_mode: str = "http"
    mesh_namespace: str = "maesh"
    ignored_namespaces: tuple[str, ...] = ()
    watched_namespaces: tuple[str, ...] = ()
    is_pod_fallback: bool = True


def is_ignored(resource: Resource, rules: TopologyRules) -> bool:
    """Tell whether an object of any kind is none of the mesh's business."""
    metadata = resource.metadata
    namespace = metadata.namespace
    if namespace == _IGNORED_NAMESPACE or namespace in rules.ignored_namespaces:
        return True
    if rules.watched_namespaces and namespace not in rules.watched_namespaces:
        return True
    return metadata.labels.get(_APP_LABEL) in _IGNORED_APPS


def is_ignored_service(service: Service, rules: TopologyRules) -> bool:
    """Tell whether a service is none of the mesh's business; beside the general rule, it may have nothing to carry."""
    return service.spec.type == "ExternalName" or service.key == _IGNORED_SERVICE or is_ignored(service, rules)
