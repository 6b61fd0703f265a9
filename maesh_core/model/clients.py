"""Which pods may be the client at an address: the one rule for callers, taps, logs, and rules of access control.

Takes all pods that have an address, without those that have ended. Pure.
"""

from collections.abc import Sequence

from maesh_core.model.resources import Pod


def select_clients(pods: Sequence[Pod]) -> Sequence[Pod]:
    """Return the pods that may be the client at an address, of all pods that have it.

    A pod on the host's network has the address of its node, like processes of the node itself and other such pods: the
    address identifies none of them.
    """
    return () if any(pod.spec.host_network for pod in pods) else pods


def find_pod_name(pods: Sequence[Pod]) -> str:
    """Name the client at an address as `namespace/name`, of all pods that have it; empty unless it is exactly one."""
    clients = select_clients(pods)
    return f"{clients[0].metadata.namespace}/{clients[0].metadata.name}" if len(clients) == 1 else ""


def find_namespace(pods: Sequence[Pod]) -> str:
    """Find the namespace of the client at an address, of all pods that have it; empty if they are of several."""
    found = {pod.metadata.namespace for pod in select_clients(pods)}
    return found.pop() if len(found) == 1 else ""
