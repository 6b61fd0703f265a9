"""The accounts of a service's servers, which TrafficTargets have as destination.

A pod has its service account. Servers outside of the mesh have no pod, so an annotation of their Service names an
account in the namespace of the Service; without it, no target can open them.
"""

from maesh_core.plugin import ObjectKey, PortNode, ServerNode, ServiceNode, build_annotation_error, is_subdomain

OUTSIDE_ACCOUNT = "service-account"
"""The annotation of a Service with the account of its outside servers."""


def find_outside_account(node: ServiceNode) -> ObjectKey | None:
    """Find the account of a service's outside servers; None without a valid annotation."""
    name = node.annotations.get(OUTSIDE_ACCOUNT, "")
    return ObjectKey(node.key.namespace, name) if is_subdomain(name) else None


def check_outside_account(annotation: str | None) -> None:
    """Raise ConfigurationError if the annotation is not the name of an account; None is no annotation."""
    if annotation is not None and not is_subdomain(annotation):
        raise build_annotation_error(OUTSIDE_ACCOUNT, annotation, "is not the name of a service account")


def group_servers(node: ServiceNode, port: PortNode) -> dict[ObjectKey, list[ServerNode]]:
    """Group the servers of a port by account, also accounts of the service's pods that are no servers of the port."""
    accounts = {pod.key: ObjectKey(pod.key.namespace, pod.service_account) for pod in node.pods}
    groups: dict[ObjectKey, list[ServerNode]] = {account: [] for account in accounts.values()}
    outside = find_outside_account(node)
    for server in port.servers:
        account = outside if server.is_name else accounts.get(server.pod) if server.pod is not None else None
        if account is not None:
            groups.setdefault(account, []).append(server)
    return groups
