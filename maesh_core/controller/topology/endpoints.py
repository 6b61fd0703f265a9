"""Reads the addresses behind a service, and the ports they serve.

EndpointSlices are used if there are any, otherwise Endpoints, otherwise (manifests) the Pods that the selector matches.
Addresses that get no traffic are left out: not ready, terminating, ended, ignored, or invalid. Likely mistakes become
notices. servers.py decides which port of the Service they belong to.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from maesh_core.controller.topology.absence import Absence, describe_selector
from maesh_core.controller.topology.rules import EXTERNAL_NAME, TopologyRules, is_ignored
from maesh_core.model.addresses import parse_address
from maesh_core.model.hosts import ZONES
from maesh_core.model.keys import ObjectKey, is_subdomain
from maesh_core.model.resources import (
    Endpoint,
    EndpointPort,
    Endpoints,
    EndpointSlice,
    ObjectReference,
    Pod,
    Service,
)
from maesh_core.model.transport import is_node_name
from maesh_core.plugin_system.interfaces import View

ENDED_PHASES = frozenset({"Succeeded", "Failed"})
NOT_READY = "not ready"
TERMINATING = "terminating"
IGNORED = "ignored by the mesh"


class Address(NamedTuple):
    """An address that gets traffic; `pod` is what it refers to, `resource` that pod if it is known.

    Both are None for an address that the referenced pod does not have. `node` is the name of its node, or empty. With
    `is_name`, `ip` is the DNS name of a server outside of the mesh.
    """

    ip: str
    pod: ObjectKey | None
    resource: Pod | None
    node: str = ""
    is_name: bool = False


class Group(NamedTuple):
    """Addresses that serve the same ports, as a slice or a subset; `ports` None: as the Service's ports say."""

    addresses: tuple[Address, ...]
    ports: tuple[EndpointPort, ...] | None


class EndpointReader:
    """Reads the addresses behind one service; `notices` collects entries that are likely mistakes, `errors` others.

    `absence` collects what was skipped, and explains why there is no address.
    """

    __slots__ = ("_rules", "_service", "_view", "absence", "errors", "notices")

    def __init__(self, view: View, service: Service, rules: TopologyRules) -> None:
        self._view = view
        self._service = service
        self._rules = rules
        self.errors: list[str] = []
        self.notices: list[str] = []
        self.absence = Absence()

    def __repr__(self) -> str:
        return f"<EndpointReader {self._service.key}, {len(self.notices)} notices>"

    def read_groups(self) -> tuple[Group, ...]:
        """Read the first of these sources that exists for the service, even if it is empty."""
        if self._service.spec.type == EXTERNAL_NAME:
            return tuple(self._read_external_name())
        selector = describe_selector(self._service.spec.selector)
        slices = self._view.find(EndpointSlice, "service", self._service.key)
        if slices:
            no_pod = f"its selector {selector} matches no pod with an address"
            self.absence.where = no_pod if selector else "its EndpointSlices have no endpoint"
            return tuple(self._read_slices(slices))
        endpoints = self._view.get(Endpoints, self._service.key)
        if endpoints is not None:
            self.absence.where = "its Endpoints have no address that is ready"
            return tuple(self._read_endpoints(endpoints))
        if self._rules.is_pod_fallback and selector:
            self.absence.where = f"its selector {selector} matches no pod"
            return (Group(tuple(self._read_pods()), None),)
        self.absence.where = "it has no EndpointSlice yet" if selector else "it has no selector and no EndpointSlice"
        return ()

    def _read_slices(self, slices: Sequence[EndpointSlice]) -> Iterator[Group]:
        for slice_ in slices:
            origin = f"EndpointSlice {slice_.key}"
            if is_ignored(slice_, self._rules):
                self.absence.note(IGNORED, origin)
                continue
            if slice_.address_type == "FQDN":
                yield Group(tuple(self._read_names(slice_, origin)), slice_.ports)
                continue
            found = (
                self._read_address(
                    # The API says that consumers use the first address, because all mean the same endpoint.
                    endpoint.addresses[0],
                    endpoint.target_ref,
                    origin=origin,
                    is_known_ready=endpoint.conditions.ready is not None,
                    node=endpoint.node_name,
                )
                for endpoint in slice_.endpoints
                if endpoint.addresses and self._is_usable(endpoint)
            )
            yield Group(tuple(address for address in found if address is not None), slice_.ports)

    def _read_external_name(self) -> Iterator[Group]:
        """Read the DNS name of an ExternalName Service; a problem with it is an error, which closes the service."""
        host, problem = self._judge_name(self._service.spec.external_name)
        if not self._service.spec.ports:
            self.errors.append("an ExternalName Service needs spec.ports: the port of the server, and its targetPort")
        if problem is not None:
            self.errors.append(f"externalName {host!r} {problem}")
            self.absence.where = f"its externalName {problem}"
        else:
            yield Group((Address(host, None, None, is_name=True),), None)

    def _read_names(self, slice_: EndpointSlice, origin: str) -> Iterator[Address]:
        """Read the names of a slice; one with a problem is left out."""
        if self._rules.outside is None:
            self.notices.append(f"{origin}: names in place of addresses (FQDN) need plugin egress; it is skipped")
            self.absence.note("names in place of addresses (FQDN)", origin)
            return
        for endpoint in slice_.endpoints:
            if not endpoint.addresses or not self._is_usable(endpoint):
                continue
            host, problem = self._judge_name(endpoint.addresses[0])
            if problem is None:
                yield Address(host, None, None, is_name=True)
            else:
                self.notices.append(f"{origin}: {host!r} {problem}; it is skipped")
                self.absence.note("names that are not carried", repr(host))

    def _judge_name(self, text: str) -> tuple[str, str | None]:
        """Return a DNS name without its final dot, and why it is not carried, or None."""
        host = text.lower().removesuffix(".")
        if parse_address(host) is not None:
            return host, "is an IP address, not a DNS name; a Service with EndpointSlices can have addresses"
        if not is_subdomain(host):
            return text, "is not a DNS name"
        if host.rpartition(".")[2] == ZONES[0] or host.endswith(f".{ZONES[1]}"):
            return host, "is a name of the mesh itself"
        return host, None if self._rules.outside is None else self._rules.outside.find_problem(self._service.key, host)

    def _is_usable(self, endpoint: Endpoint) -> bool:
        conditions, reference = endpoint.conditions, endpoint.target_ref
        name = reference.name if reference is not None and reference.name else endpoint.addresses[0]
        if conditions.terminating:
            self.absence.note(TERMINATING, name)
        elif conditions.ready is False:
            self.absence.note(NOT_READY, name)
        else:
            return True
        return False

    def _read_endpoints(self, endpoints: Endpoints) -> Iterator[Group]:
        origin = f"Endpoints {endpoints.key}"
        if is_ignored(endpoints, self._rules):
            self.absence.note(IGNORED, origin)
            return
        for subset in endpoints.subsets:
            found = (
                self._read_address(
                    address.ip, address.target_ref, origin=origin, is_known_ready=True, node=address.node_name
                )
                for address in subset.addresses
            )
            yield Group(tuple(address for address in found if address is not None), subset.ports)

    def _read_pods(self) -> Iterator[Address]:
        namespace = self._service.key.namespace
        selector = self._service.spec.selector
        label, value = min(selector.items())
        for pod in self._view.find(Pod, "label", f"{namespace}/{label}={value}"):
            labels = pod.metadata.labels
            is_selected = pod.key.namespace == namespace and selector.items() <= labels.items()
            if not is_selected or not self._takes_traffic(pod, is_known_ready=False):
                continue
            if not pod.status.pod_ip:
                self.absence.note("pods without an address", pod.metadata.name)
                continue
            ip = self._parse_ip(pod.status.pod_ip, f"Pod {pod.key}")
            if ip is not None:
                yield Address(ip, pod.key, pod, self._find_node("", pod))

    def _read_address(
        self, text: str, reference: ObjectReference | None, *, origin: str, is_known_ready: bool, node: str
    ) -> Address | None:
        """Resolve the reference to a pod; if the pod is unknown, the address is used without it.

        An address that its pod does not have is served, but not attributed to the pod. Otherwise anyone who can write
        slices could have any address checked by the account of any pod.
        """
        key = pod = None
        if reference is not None and reference.kind == "Pod":
            key = ObjectKey(reference.namespace or self._service.key.namespace, reference.name)
            pod = self._view.get(Pod, key)
        if pod is not None and not self._takes_traffic(pod, is_known_ready=is_known_ready):
            return None
        ip = self._parse_ip(text, origin)
        if ip is None:
            return None
        if pod is not None and ip not in pod.addresses:
            if pod.addresses or pod.status.phase != "Pending":  # its address may not have been reported yet
                self.notices.append(
                    f"{origin}: {ip} is not an address of Pod {key}, so it is not attributed to that pod"
                )
            return Address(ip, None, None, self._find_node(node, None))
        return Address(ip, key, pod, self._find_node(node, pod))

    def _find_node(self, name: str, pod: Pod | None) -> str:
        """Find the name of an address's node: that in the endpoint, else that of its pod."""
        if not self._rules.has_transport:
            return ""
        return read_node_name(name) or (read_node_name(pod.spec.node_name) if pod is not None else "")

    def _takes_traffic(self, pod: Pod, *, is_known_ready: bool) -> bool:
        """Whether a pod gets traffic; if an endpoint itself is marked as ready, the pod's condition is ignored.

        The latter is the case for a Service with publishNotReadyAddresses.
        """
        is_ready = is_known_ready or all(
            condition.status == "True" for condition in pod.status.conditions if condition.type == "Ready"
        )
        if is_ignored(pod, self._rules):
            self.absence.note(IGNORED, pod.metadata.name)
        elif pod.status.phase in ENDED_PHASES:
            self.absence.note("pods that have ended", pod.metadata.name)
        elif pod.metadata.deletion_timestamp is not None:
            self.absence.note(TERMINATING, pod.metadata.name)
        elif not is_ready:
            self.absence.note(NOT_READY, pod.metadata.name)
        else:
            return True
        return False

    def _parse_ip(self, text: str, origin: str) -> str | None:
        ip = parse_address(text)
        if ip is None:
            self.notices.append(f"{origin}: {text!r} is not an IP address and is ignored")
            self.absence.note("no IP address", repr(text))
        return ip


def read_node_name(text: str) -> str:
    """Return the name of a node; empty if it is not a valid one, which proxies would refuse."""
    return text if is_node_name(text) else ""
