"""The clients of a state of the mesh, by service account: access control identifies clients by the pods of accounts.

Takes the objects of an engine. Finds a pod for an account, and adds pods for accounts that have none, so that two
states, or a manifest without workloads, can be asked about the same clients. An added pod has no labels: no service
selects it.
"""

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv6Address
from typing import Any

from maesh_core.controller.explaining.pod_lookup import PodLookup, report_pod
from maesh_core.controller.rebuilds.engine import Engine
from maesh_core.controller.resources.kinds import ACCOUNT_INDEX, ADDRESS_INDEX, has_ended
from maesh_core.model.events import Applied
from maesh_core.model.keys import ObjectKey
from maesh_core.model.messages import PodsReport
from maesh_core.model.resources import ObjectMeta, Pod, PodAddress, PodSpec, PodStatus

CLIENT_POD = "maesh-client"
"""Beginning of the names of added pods; the account follows, which may be as long as a name: nothing checks these."""
FIRST_ADDRESS = int(IPv6Address("2001:db8:6d61:6573::1"))
"""The first address of added pods, in the range for documentation (RFC 3849), which no network uses."""
STRANGER = "2001:db8:6d61:6573:ffff::1"
"""An address that no pod has."""

Account = ObjectKey


class IndexedPods:
    """Implements `explaining.client.Pods` for many questions about one state: addresses are looked up in the index."""

    is_complete = True

    def __init__(self, engine: Engine) -> None:
        self._objects = engine.objects
        self._lookup = PodLookup(engine.objects)

    def __repr__(self) -> str:
        return f"<IndexedPods of {self._objects!r}>"

    def find_by_name(self, key: ObjectKey) -> PodsReport:
        """Find the pod of this name, or those with the most similar names."""
        return self._lookup.find_by_name(key)

    def find_by_address(self, address: str) -> PodsReport:
        """Find the pods that have this address, in its canonical form."""
        return PodsReport(pods=tuple(map(report_pod, self._objects.find(Pod, ADDRESS_INDEX, address))))


def list_accounts(engine: Engine) -> set[Account]:
    """List the service accounts that have a pod."""
    pods = (engine.objects.get(Pod, key) for key in engine.objects.keys(Pod))
    return {
        Account(pod.metadata.namespace, pod.spec.service_account_name) for pod in pods if pod and not has_ended(pod)
    }


def list_named_accounts(topology: Mapping[str, Any]) -> set[Account]:
    """List the service accounts that rules of access control name as sources."""
    return {
        Account(str(each["namespace"]), str(each["serviceAccount"]))
        for target in topology.get("serviceTrafficTargets", {}).values()
        for each in target.get("sources", ())
        if each.get("namespace") and each.get("serviceAccount")
    }


def find_client_pod(engine: Engine, account: Account) -> ObjectKey | None:
    """Find a pod whose addresses identify the account; None if there is none."""
    for pod in engine.objects.find(Pod, ACCOUNT_INDEX, account):
        if pod.addresses and not pod.spec.host_network and not has_ended(pod):
            holders = engine.objects.find(Pod, ADDRESS_INDEX, pod.addresses[0])
            if all(_get_account(each) == account for each in holders):
                return pod.key
    return None


def add_clients(engine: Engine, accounts: Iterable[Account]) -> bool:
    """Add a pod for each of these accounts that has none which identifies it; returns whether there was one."""
    missing = [account for account in sorted(set(accounts)) if find_client_pod(engine, account) is None]
    if missing:
        pods = (_build_pod(account, address) for account, address in zip(missing, _list_free(engine), strict=False))
        engine.apply([Applied(pod) for pod in pods], source="clients")
    return bool(missing)


def _list_free(engine: Engine) -> Iterator[str]:
    number = FIRST_ADDRESS
    while True:
        address = str(IPv6Address(number))
        if not engine.objects.find(Pod, ADDRESS_INDEX, address):
            yield address
        number += 1


def _build_pod(account: Account, address: str) -> Pod:
    return Pod(
        metadata=ObjectMeta(name=f"{CLIENT_POD}-{account.name}", namespace=account.namespace),
        spec=PodSpec(service_account_name=account.name),
        status=PodStatus(pod_ip=address, pod_ips=(PodAddress(ip=address),), phase="Running"),
    )


def _get_account(pod: Pod) -> Account:
    return Account(pod.metadata.namespace, pod.spec.service_account_name)
