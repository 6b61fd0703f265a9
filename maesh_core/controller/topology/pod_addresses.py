"""Names pods by their addresses, for the sections `pods` and `clients` of the configuration.

Takes a view and addresses; returns `namespace/name` for each, which is empty if the address identifies no pod: a pod
on the host's network, several pods with one address, and pods that have ended are not named.
"""

from collections.abc import Iterable

from maesh_core.model.clients import find_namespace, find_pod_name
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import Pod
from maesh_core.plugin_system.interfaces import View

_ADDRESS_INDEX = "address"


def find_pod_names(view: View, addresses: Iterable[str]) -> dict[str, str]:
    """Find the name of the pod at each of these addresses."""
    return {address: find_pod_name(view.find(Pod, _ADDRESS_INDEX, address)) for address in addresses}


def find_namespaces(view: View, addresses: Iterable[str]) -> dict[str, str]:
    """Find the namespace of the pods at each of these addresses; empty if it is not one."""
    return {address: find_namespace(view.find(Pod, _ADDRESS_INDEX, address)) for address in addresses}


def list_addresses(view: View, pods: Iterable[ObjectKey]) -> list[str]:
    """List the addresses of pods, each once; also build the index of addresses, whose reads say what changes later."""
    view.find(Pod, _ADDRESS_INDEX, "")
    found = (view.get(Pod, key) for key in pods)
    return list(dict.fromkeys(address for pod in found if pod is not None for address in pod.addresses))
