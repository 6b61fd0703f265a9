"""What transports need to know about a service: annotations of namespaces, and the clients that its rules name.

Takes the node of a service with the additions of plugins; returns the node with `namespace_annotations` and `clients`.
It is called only if the controller has a transport.
"""

from collections.abc import Mapping

import msgspec

from maesh_core.controller.topology.endpoints import read_node_name
from maesh_core.model.annotations import parse_annotations
from maesh_core.model.clients import select_clients
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import Namespace, Pod
from maesh_core.model.topology import ServiceNode
from maesh_core.model.transport import ClientEntry
from maesh_core.plugin_system.interfaces import View
from maesh_core.plugin_system.rules import list_rule_backends

_ADDRESS_INDEX = "address"


def add_transport(view: View, node: ServiceNode) -> ServiceNode:
    """Add what transports need to the node of a service."""
    branched = (backend for port in node.ports for branch in port.branches for backend in branch.backends)
    ruled = (backend for port in node.ports for backend in list_rule_backends(port))
    backends = (*branched, *ruled)
    namespaces = {node.key.namespace, *(backend.service.namespace for backend in backends)}
    annotations = {name: found for name in sorted(namespaces) if (found := _read_namespace(view, name))}
    return msgspec.structs.replace(node, namespace_annotations=annotations, clients=_find_clients(view, node))


def _read_namespace(view: View, name: str) -> Mapping[str, str]:
    namespace = view.get(Namespace, ObjectKey("", name))
    return {} if namespace is None else parse_annotations(namespace.metadata.annotations)


def _find_clients(view: View, node: ServiceNode) -> dict[str, ClientEntry]:
    """Find the entry of each address that a pod of a rule has, and no pod of another node or account."""
    pods = (view.get(Pod, key) for key in sorted({pod.key for pod in node.named_pods}))
    addresses = {address for pod in pods if pod is not None for address in pod.addresses}
    found = ((address, _find_client(view, address)) for address in sorted(addresses))
    return {address: entry for address, entry in found if entry is not None}


def _find_client(view: View, address: str) -> ClientEntry | None:
    """Find the entry of an address that is on a node."""
    entry = find_account(view, address)
    return entry if entry is not None and entry.node else None


def find_account(view: View, address: str) -> ClientEntry | None:
    """Find the entry of an address; None if it identifies no pod, as that of a pod on the host's network.

    The node is empty if it is not known.
    """
    entries = {
        ClientEntry(
            node=read_node_name(pod.spec.node_name), account=f"{pod.spec.service_account_name}@{pod.metadata.namespace}"
        )
        for pod in select_clients(view.find(Pod, _ADDRESS_INDEX, address))
    }
    return entries.pop() if len(entries) == 1 else None
