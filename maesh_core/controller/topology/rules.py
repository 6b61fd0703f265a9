"""Decides which of the cluster's objects the mesh ignores.

Takes an object and the rules from the settings. Each object is checked by itself: an ignored pod behind a watched
service gets no traffic.
"""

import msgspec

from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import Resource, Service
from maesh_core.plugin_system.outside import OutsideRules

EXTERNAL_NAME = "ExternalName"
"""The type of Services that are an alias of a DNS name."""
_IGNORED_NAMESPACE = "kube-system"
_IGNORED_SERVICE = ObjectKey("default", "kubernetes")
_APP_LABEL = "app"
_IGNORED_APPS = frozenset({"maesh", "jaeger"})


class TopologyRules(msgspec.Struct, frozen=True, kw_only=True):
    """The settings that concern the whole mesh.

    `default_mode` is the traffic type of services without that annotation. `mesh_namespace` is the mesh's own
    namespace, which these rules treat like any other. An empty `watched_namespaces` means all; ignoring takes
    precedence over watching. With `is_pod_fallback`, a service without EndpointSlices and Endpoints gets the Pods that
    its selector matches: only a cluster creates the former two, while manifests contain what people write.
    `has_transport`: a transport is enabled, so that servers have the names of their nodes. `names_clients`: proxies get
    the accounts of all pods, by address. `filters` are the names of the filters that enabled plugins build for routes.
    `has_shadows`: the mesh's namespace has shadow services, whose addresses mean the user's services, as in a cluster.
    `outside` decides which servers outside of the mesh are carried by name; None means none.
    """

    default_mode: str = "http"
    mesh_namespace: str = "maesh"
    ignored_namespaces: tuple[str, ...] = ()
    watched_namespaces: tuple[str, ...] = ()
    is_pod_fallback: bool = True
    has_transport: bool = False
    names_clients: bool = False
    filters: frozenset[str] = frozenset()
    has_shadows: bool = False
    outside: OutsideRules | None = None


def is_ignored(resource: Resource, rules: TopologyRules) -> bool:
    """Whether the mesh ignores an object of any kind."""
    metadata = resource.metadata
    namespace = metadata.namespace
    if namespace == _IGNORED_NAMESPACE or namespace in rules.ignored_namespaces:
        return True
    if rules.watched_namespaces and namespace not in rules.watched_namespaces:
        return True
    return metadata.labels.get(_APP_LABEL) in _IGNORED_APPS


def is_ignored_service(service: Service, rules: TopologyRules) -> bool:
    """Whether the mesh ignores a service: by the general rule, or because it has nothing to route."""
    if service.spec.type == EXTERNAL_NAME and rules.outside is None:
        return True
    return service.key == _IGNORED_SERVICE or is_ignored(service, rules)
