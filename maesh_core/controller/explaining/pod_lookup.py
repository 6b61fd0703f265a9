"""Finds a pod by its name or its address, for `maesh explain`: `/api/pods` answers with the result.

Takes the snapshot and returns reports of a bounded number of pods. It knows every pod of the snapshot, including those
that no service and no rule names. It builds no index and keeps nothing: a lookup among 100,000 pods takes 0.3 s.
"""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Protocol

from maesh_core.controller.resources.kinds import ADDRESS_INDEX, has_ended
from maesh_core.model.keys import ObjectKey
from maesh_core.model.messages import PodReport, PodsReport
from maesh_core.model.resources import Pod, Resource

PODS_LIMIT = 100
"""Limit of pods in an answer: the host-network pods of a node share its address, usually a few dozen."""
NEAREST_LIMIT = 3
CANDIDATES_LIMIT = 2_000
"""Limit of names that are compared for similarity, which takes some microseconds each."""


class Objects(Protocol):
    """The source of pods: a snapshot."""

    def get(self, type_: type[Pod], key: ObjectKey) -> Pod | None: ...  # noqa: D102

    def search(self, type_: type[Pod], index: str, value: str | ObjectKey) -> Sequence[Pod]: ...  # noqa: D102

    def keys(self, type_: type[Resource]) -> Sequence[ObjectKey]: ...  # noqa: D102


class PodLookup:
    """Finds pods among the current objects. Implements `client.Pods`."""

    __slots__ = ("_objects",)

    is_complete = True

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def __repr__(self) -> str:
        return f"<PodLookup {self._objects!r}>"

    def find_by_name(self, key: ObjectKey) -> PodsReport:
        """Find the pod of this name, or those with the most similar names."""
        pod = self._objects.get(Pod, key)
        if pod is not None:
            return PodsReport(pods=(report_pod(pod),))
        return PodsReport(nearest=tuple(f"{each.namespace}/{each.name}" for each in self._find_nearest(key)))

    def find_by_address(self, address: str) -> PodsReport:
        """Find the pods that have this address, in its canonical form; pods that have ended have none."""
        pods = self._objects.search(Pod, ADDRESS_INDEX, address)
        return PodsReport(pods=tuple(map(report_pod, pods[:PODS_LIMIT])), more=max(0, len(pods) - PODS_LIMIT))

    def _find_nearest(self, key: ObjectKey) -> list[ObjectKey]:
        """Find pods with this name elsewhere, those whose names start with it, or those with similar names.

        The name of a Deployment's pod is the Deployment's name with a random suffix.
        """
        keys = self._objects.keys(Pod)
        elsewhere = [each for each in keys if each.name == key.name]
        beside = [each for each in keys if each.namespace == key.namespace]
        begun = [each for each in beside if each.name.startswith(f"{key.name}-")]
        return (elsewhere or begun or _find_close(key, beside))[:NEAREST_LIMIT]


def _find_close(key: ObjectKey, others: Iterable[ObjectKey]) -> list[ObjectKey]:
    names = [each.name for each in others if abs(len(each.name) - len(key.name)) <= len(key.name)]
    close = get_close_matches(key.name, names[:CANDIDATES_LIMIT], n=NEAREST_LIMIT)
    return [ObjectKey(key.namespace, name) for name in close]


def report_pod(pod: Pod) -> PodReport:
    """Report what an explanation needs of a pod."""
    return PodReport(
        namespace=pod.metadata.namespace,
        name=pod.metadata.name,
        service_account=pod.spec.service_account_name,
        addresses=pod.addresses,
        host_network=pod.spec.host_network,
        ended=has_ended(pod),
    )
