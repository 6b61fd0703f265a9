"""Names the clients of services: takes the address of a client, and returns the workload that has it.

Reads pods from the snapshot. An address names a workload only if all pods that have it belong to that workload and
none of them is on the host's network, where a node's own processes have the same address. Otherwise the caller is the
address itself.
"""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from maesh_core.controller.resources.kinds import ADDRESS_INDEX
from maesh_core.model.clients import select_clients
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import OwnerReference, Pod

HASH_LABEL: Final = "pod-template-hash"
"""The label that the Deployment controller gives to pods and ReplicaSets (Kubernetes, "Deployments")."""
_HASHED_NAME = re.compile(r"(.+)-[bcdfghjklmnpqrstvwxz2456789]{6,10}", re.ASCII)
"""The name of a Deployment's ReplicaSet: the hash has only these characters (Kubernetes, SafeEncodeString)."""
WORKLOADS: Final = frozenset({"StatefulSet", "DaemonSet", "Job"})


class Caller(NamedTuple):
    """A caller as a report names it, with its service account as `name@namespace` and its pods as `namespace/name`."""

    name: str
    account: str = ""
    pods: tuple[str, ...] = ()


class Objects(Protocol):
    """The source of pods: a snapshot."""

    def get(self, type_: type[Pod], key: ObjectKey) -> Pod | None: ...  # noqa: D102

    def find(self, type_: type[Pod], index: str, value: str | ObjectKey) -> Sequence[Pod]: ...  # noqa: D102


def find_caller(objects: Objects, address: str) -> Caller:
    """Find the caller with this address; the first use builds the snapshot's index of addresses."""
    pods = select_clients(objects.find(Pod, ADDRESS_INDEX, address))
    identities = {(name_workload(pod), pod.spec.service_account_name) for pod in pods}
    if len(identities) != 1:
        return Caller(address)
    ((workload, account),) = identities
    namespace = pods[0].metadata.namespace
    names = tuple(f"{pod.metadata.namespace}/{pod.metadata.name}" for pod in pods)
    return Caller(workload, f"{account}@{namespace}", names)


def name_workload(pod: Pod) -> str:
    """Name the workload of a pod, as `Deployment/name@namespace`; a pod without a known owner is its own workload."""
    metadata = pod.metadata
    for owner in metadata.owner_references:
        if owner.kind == "ReplicaSet":
            deployment = _find_deployment(owner, metadata.labels.get(HASH_LABEL, ""))
            kind, name = ("Deployment", deployment) if deployment else ("ReplicaSet", owner.name)
            return f"{kind}/{name}@{metadata.namespace}"
        if owner.kind in WORKLOADS:
            return f"{owner.kind}/{owner.name}@{metadata.namespace}"
    return f"Pod/{metadata.name}@{metadata.namespace}"


def _find_deployment(replica_set: OwnerReference, hash_: str) -> str:
    """Find the name of a ReplicaSet's Deployment by the hash at its end; empty if it seems to have none."""
    if hash_:
        return replica_set.name.removesuffix(f"-{hash_}") if replica_set.name.endswith(f"-{hash_}") else ""
    match = _HASHED_NAME.fullmatch(replica_set.name)
    return match[1] if match else ""
