"""Finds the addresses of the clients that TrafficTargets name as sources.

Takes a view and accounts. An address identifies a client only if no pod of another account has it, and if it is not
that of a node; pods that identify nobody get a notice.
"""

from collections.abc import Iterable

from maesh_acl.kinds import SERVICE_ACCOUNT, Account
from maesh_core.plugin import ObjectFindings, ObjectKey, Pod, PodNode, TopologyView

ACCOUNT_INDEX, ADDRESS_INDEX = "account", "address"
"""Indexes of the core's Pods."""


class SourceFinder:
    """The sources of the targets of one service, for one build. It adds notices for the service to `notices`."""

    def __init__(self, view: TopologyView, notices: list[str]) -> None:
        self._view = view
        self._notices = notices
        self._pods: dict[ObjectKey, Pod] = {}
        self._texts: dict[ObjectKey, list[str]] = {}
        """Why pods identify no client."""

    def list_pods(self) -> tuple[PodNode, ...]:
        """List the pods that targets name as sources, for the topology."""
        return tuple(
            PodNode(
                key=key,
                service_account=pod.spec.service_account_name,
                address=pod.addresses[0],
                node=pod.spec.node_name,
            )
            for key, pod in sorted(self._pods.items())
        )

    def list_findings(self) -> tuple[ObjectFindings, ...]:
        """List the pods that identify no client, with the reasons."""
        return tuple(
            ObjectFindings(type=Pod, key=key, notices=tuple(texts)) for key, texts in sorted(self._texts.items())
        )

    def find_addresses(self, callers: Iterable[Account]) -> tuple[str, ...]:
        """Find the addresses that identify pods of these accounts, and no others."""
        allowed = {
            ObjectKey(caller.namespace, caller.name)
            for caller in callers
            if caller.kind in ("", SERVICE_ACCOUNT) and caller.namespace and caller.name
        }
        pods = [pod for account in allowed for pod in self._view.find(Pod, ACCOUNT_INDEX, account) if pod.addresses]
        self._pods.update({pod.key: pod for pod in pods})
        for pod in pods:
            if pod.spec.host_network:
                self._notices.append(f"acl: {pod.key} has its node's address, which identifies no client")
                self._note_pod(pod, "it has its node's address, which identifies no client")
        addresses = {address for pod in pods if not pod.spec.host_network for address in pod.addresses}
        return tuple(sorted(address for address in addresses if self._check_sharing(address, allowed)))

    def _check_sharing(self, address: str, allowed: set[ObjectKey]) -> bool:
        """Report an address that a pod of another account also has: it identifies nobody. True if none has."""
        pods = self._view.find(Pod, ADDRESS_INDEX, address)
        for pod in pods:
            if ObjectKey(pod.metadata.namespace, pod.spec.service_account_name) not in allowed:
                self._notices.append(
                    f"acl: address {address} is also the address of {pod.key}, so it identifies no client"
                )
                for mine in pods:
                    self._note_pod(mine, _describe_sharing(address, mine, pods))
                return False
        return True

    def _note_pod(self, pod: Pod, text: str) -> None:
        texts = self._texts.setdefault(pod.key, [])
        if text not in texts:
            texts.append(text)


def _describe_sharing(address: str, pod: Pod, pods: Iterable[Pod]) -> str:
    """Describe the pods of other accounts that have a pod's address."""
    others = [each for each in pods if _get_account(each) != _get_account(pod)]
    shown = ", ".join(f"{each.key} ({_get_account(each)})" for each in others)
    return (
        f"its address {address} is also the address of {shown};"
        " an address of several service accounts identifies none of them"
    )


def _get_account(pod: Pod) -> ObjectKey:
    return ObjectKey(pod.metadata.namespace, pod.spec.service_account_name)
