"""The client of an explained request: its addresses, its pod, and the other pods that share an address.

Takes the user's text, which is an address or a pod in one of three spellings, and a pod lookup; returns a Client with
notes about it. Raises ConfigurationError if there is no such pod. Does not check access.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from maesh_core.errors import ConfigurationError
from maesh_core.model.addresses import parse_address
from maesh_core.model.keys import ObjectKey
from maesh_core.model.messages import PodReport, PodsReport

SHOWN_PODS = 3
"""Limit of shown pods with one address: all pods on the host's network of a node share one."""


class Pods(Protocol):
    """A pod lookup. One that is not complete knows only the pods that services and rules name."""

    @property
    def is_complete(self) -> bool: ...  # noqa: D102

    def find_by_name(self, key: ObjectKey) -> PodsReport:
        """Find the pod of this name, or those with the most similar names."""

    def find_by_address(self, address: str) -> PodsReport:
        """Find the pods that have this address, in its canonical form."""


class Client(msgspec.Struct, frozen=True, kw_only=True):
    """The client: `addresses` it may call from, empty if unknown, and the pods that have each of them.

    `pod` is the named one, or the one that has the given address; None if pods of several accounts have it.
    """

    addresses: tuple[str, ...] = ()
    pod: PodReport | None = None
    holders: Mapping[str, tuple[PodReport, ...]] = {}
    lines: tuple[str, ...] = ()

    @property
    def account(self) -> str:
        """The service account of its pod, `name@namespace`; empty if `pod` is None."""
        return self.pod.account if self.pod is not None else ""


class TopologyPods:
    """Implements `Pods` for a controller without `/api/pods`: knows the pods of its topology, at one address each."""

    is_complete = False

    def __init__(self, topology: Mapping[str, Any]) -> None:
        self._pods = [
            PodReport(
                namespace=str(each.get("namespace")),
                name=str(each.get("name")),
                service_account=str(each.get("serviceAccount")),
                addresses=tuple(filter(None, [parse_address(str(each.get("ip")))])),
            )
            for _, each in sorted(topology["pods"].items())
        ]

    def find_by_name(self, key: ObjectKey) -> PodsReport:
        """Find the pod of this name; similar names are not searched."""
        return PodsReport(pods=tuple(pod for pod in self._pods if (pod.namespace, pod.name) == key))

    def find_by_address(self, address: str) -> PodsReport:
        """Find the pods whose first address this is."""
        return PodsReport(pods=tuple(pod for pod in self._pods if address in pod.addresses))


def find_client(text: str, pods: Pods) -> Client:
    """Find the client; raises ConfigurationError for an unknown pod and for an invalid address."""
    address = parse_address(text)
    if address is not None:
        return _find_at(address, pods)
    if ":" in text or text.replace(".", "").isdigit():  # no pod's name contains these
        raise ConfigurationError(f"{text} is neither an IP address nor the name of a pod")
    keys = parse_pod_names(text)
    for key in keys:
        found = pods.find_by_name(key).pods
        if found:
            return _describe_pod(found[0], pods)
    if not pods.is_complete:
        return Client(lines=(f"client {text}: no service has this pod and no rule names it",))
    raise ConfigurationError(_describe_missing(keys, pods))


def parse_pod_names(text: str) -> tuple[ObjectKey, ...]:
    """Parse `namespace/name`, `name@namespace` or `name.namespace`; a name alone is in the namespace `default`.

    A pod's name may contain dots, a namespace none (RFC 1123), so a text with dots has several readings: the namespace
    is after the last dot, or after the first (a DNS name), or absent.
    """
    if "/" in text:
        namespace, _, name = text.partition("/")
        return (ObjectKey(namespace, name),)
    if "@" in text:
        name, _, namespace = text.rpartition("@")
        return (ObjectKey(namespace, name),)
    lone = ObjectKey("default", text)
    if "." not in text:
        return (lone,)
    name, _, namespace = text.rpartition(".")
    first, second, *_ = text.split(".")
    return tuple(dict.fromkeys((ObjectKey(namespace, name), ObjectKey(second, first), lone)))


def parse_service_name(text: str) -> ObjectKey:
    """Parse `namespace/name`, `name@namespace` or `name.namespace` with or without a domain; a name alone as above."""
    if "/" in text:
        namespace, _, name = text.partition("/")
        return ObjectKey(namespace, name)
    name, _, namespace = text.replace("@", ".", 1).partition(".")
    return ObjectKey(namespace.partition(".")[0] or "default", name)


def is_plain_name(text: str) -> bool:
    """Whether a text names a service without its namespace: it then means the one of the client's namespace."""
    return not any(each in text for each in "./@:")


def parse_plain_name(text: str, client: Client) -> tuple[ObjectKey, str]:
    """Find the service that a client means by a name alone, as a proxy does by the Host; a line explains it.

    If the client's namespace is unknown, the service is in the namespace `default`.
    """
    namespace = find_client_namespace(client.holders.get(next(iter(client.addresses), ""), ()))
    if namespace:
        return ObjectKey(namespace, text), f"{text} alone means the service of the client's namespace, {namespace}"
    line = f"the client's namespace is unknown, so {text} alone as Host gets 404; here it means namespace default"
    return ObjectKey("default", text), line


def find_client_namespace(pods: Iterable[PodReport]) -> str:
    """Find the namespace of the client at an address, of the pods that have it, as `model/clients.py` does."""
    found = list(pods)
    namespaces = {pod.namespace for pod in found}
    return namespaces.pop() if len(namespaces) == 1 and not any(pod.host_network for pod in found) else ""


def _find_at(address: str, pods: Pods) -> Client:
    """Find the client with an address: a pod, or several of one account; with several accounts, none."""
    found = pods.find_by_address(address)
    holders = {address: found.pods}
    if len({pod.account for pod in found.pods}) > 1:
        line = f"client {address}: the address of {_name(found.pods, found.more)}"
        return Client(addresses=(address,), holders=holders, lines=(line,))
    if not found.pods:
        who = (
            "no pod has this address"
            if pods.is_complete
            else "the address of no pod that a service has or a rule names"
        )
        return Client(addresses=(address,), lines=(f"client {address}: {who}",))
    pod = found.pods[0]
    lines = [_describe(pod, address), *_describe_others(address, found, pod)]
    return Client(addresses=(address,), pod=pod, holders=holders, lines=tuple(lines))


def _describe_pod(pod: PodReport, pods: Pods) -> Client:
    if pod.ended:
        return Client(pod=pod, lines=(f"{_describe(pod, '')}: it has ended, so nothing comes from it",))
    lines = [_describe(pod, " and ".join(pod.addresses))]
    holders = {}
    for address in pod.addresses:
        found = pods.find_by_address(address)
        holders[address] = found.pods
        lines += _describe_others(address, found, pod)
    return Client(addresses=pod.addresses, pod=pod, holders=holders, lines=tuple(lines))


def _describe(pod: PodReport, address: str) -> str:
    place = f" at {address}" if address else "" if pod.ended else " without an address"
    network = ", on its node's network" if pod.host_network else ""
    return f"client pod {pod.namespace}/{pod.name}{place}, service account {pod.account}{network}"


def _describe_others(address: str, found: PodsReport, pod: PodReport) -> Iterable[str]:
    others = [each for each in found.pods if (each.namespace, each.name) != (pod.namespace, pod.name)]
    if others:
        yield f"address {address} is also that of {_name(others, found.more)}"


def _name(pods: Sequence[PodReport], more: int) -> str:
    """List pods with their accounts, up to the length of a line."""
    names = [f"{pod.namespace}/{pod.name} ({pod.account})" for pod in pods[:SHOWN_PODS]]
    rest = len(pods) - len(names) + more
    if rest > 0:
        return f"pods {', '.join(names)} and {rest} more"
    return f"pod {names[0]}" if len(names) == 1 else f"pods {', '.join(names[:-1])} and {names[-1]}"


def _describe_missing(keys: Sequence[ObjectKey], pods: Pods) -> str:
    text = f"there is no pod {keys[0].name} in namespace {keys[0].namespace}"
    nearest = list(dict.fromkeys(name for key in keys for name in pods.find_by_name(key).nearest))
    return f"{text}; did you mean {' or '.join(nearest[:SHOWN_PODS])}?" if nearest else text
