"""The nodes of the cluster on which the mesh's proxies accept connections from other nodes.

Takes the pods with the label `maesh.io/tunnel` in the mesh's namespace, which the chart sets if a transport is enabled;
returns a MeshNode for each node that has such a pod with an address. Pods that end are left out, so that no new
connections are opened to them. Whether a node takes part is not decided here.
"""

from collections.abc import Sequence

from maesh_core.controller.topology.builder import build_pod
from maesh_core.controller.topology.endpoints import ENDED_PHASES
from maesh_core.model.resources import Pod
from maesh_core.model.transport import is_node_name
from maesh_core.plugin_system.interfaces import View
from maesh_core.plugin_system.transports import MeshNode

_TUNNEL_INDEX = "tunnel"
"""Pods with the label, by namespace, and by `namespace/node` (resources/kinds.py)."""


def list_mesh_nodes(view: View, namespace: str) -> list[str]:
    """List the names of all nodes that have a pod with the label, sorted."""
    return sorted({pod.spec.node_name for pod in view.find(Pod, _TUNNEL_INDEX, namespace)})


def build_mesh_node(view: View, namespace: str, name: str) -> MeshNode | None:
    """Build a node; None if it has no usable pod. The newest ready pod is first, pods that are not ready are last."""
    if not is_node_name(name):
        return None
    pods = [pod for pod in view.find(Pod, _TUNNEL_INDEX, f"{namespace}/{name}") if _is_usable(pod)]
    return _build_node(name, pods) if pods else None


def _is_usable(pod: Pod) -> bool:
    has_ended = pod.status.phase in ENDED_PHASES or pod.metadata.deletion_timestamp is not None
    return bool(pod.addresses) and not has_ended


def _build_node(name: str, pods: Sequence[Pod]) -> MeshNode:
    newest = sorted(pods, key=lambda pod: pod.key)
    newest.sort(key=lambda pod: pod.status.start_time, reverse=True)
    newest.sort(key=_is_ready, reverse=True)
    return MeshNode(name=name, proxies=tuple(build_pod(pod.key, pod) for pod in newest))


def _is_ready(pod: Pod) -> bool:
    """Whether a pod is ready; one that reports no conditions, as in manifests, is."""
    return all(each.status == "True" for each in pod.status.conditions if each.type == "Ready")
