"""The mesh as suggestions need it: which pods, of which service accounts, serve each service port, and who may call it.

Takes the document of `/api/topology/current`. Ignores what it does not understand: a port that is missing here only
means that nothing is suggested for it. Decides nothing.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from maesh_acl import AclSettings, Grant
from maesh_acl.granting.destinations import OUTSIDE_ACCOUNT
from maesh_core.plugin import HttpMatch, ObjectKey, build_port_key, parse_annotations

UDP = "udp"


class Group(NamedTuple):
    """The pods of a service account that serve a port, by the number of that port in the pods."""

    account: ObjectKey
    port: int


class Leaf(msgspec.Struct, frozen=True, kw_only=True):
    """A service port that receives the traffic of a destination: its servers by group, and its grants."""

    service: ObjectKey
    number: int
    groups: Mapping[Group, frozenset[tuple[str, int]]]
    grants: tuple[Grant, ...]

    @property
    def key(self) -> str:
        """The key of the service port."""
        return build_port_key(self.service, self.number)


class RouteMatch(HttpMatch, frozen=True, kw_only=True, rename="camel"):
    """A match of a rule, and its place in the order of all matches of the port."""

    place: int = 0


class RouteRule(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that routes requests: its key, its matches, and the keys of its backends."""

    key: str
    matches: tuple[RouteMatch, ...]
    parts: frozenset[str]


class ServicePort(msgspec.Struct, frozen=True, kw_only=True):
    """A service port, and the leaves of everything that its traffic can be routed to, by key."""

    service: ObjectKey
    number: int
    traffic_type: str
    groups: Mapping[Group, frozenset[tuple[str, int]]]
    destinations: Mapping[str, tuple[Leaf, ...]]
    rules: Mapping[str, tuple[RouteRule, ...]] = {}
    """Those for clients of a namespace, and those for all others at the empty text."""

    @property
    def key(self) -> str:
        """The key of the service port."""
        return build_port_key(self.service, self.number)


class _Server(msgspec.Struct, rename="camel"):
    address: str
    port: int
    pod: str = ""
    is_name: bool = False


class _Backend(msgspec.Struct):
    service: str
    namespace: str
    port: int = 0
    protocol: str = ""

    def name_part(self, own: str) -> str:
        """Name the part of a rule of the port `own` that is this backend, as records do."""
        place = build_port_key(ObjectKey(self.namespace, self.service), self.port)
        if self.protocol:
            return f"{own}/backend/{place}/{self.protocol}"
        return own if place == own else f"{own}/backend/{place}"


class _Rule(msgspec.Struct):
    key: str = ""
    matches: tuple[RouteMatch, ...] = ()
    backends: tuple[_Backend, ...] = ()


class _Table(msgspec.Struct):
    rules: tuple[_Rule, ...] = ()


class _Port(msgspec.Struct, rename="camel"):
    port: int
    protocol: str = "TCP"
    traffic_type: str | None = None
    servers: tuple[_Server, ...] = ()
    rules: _Table | None = None
    consumers: Mapping[str, _Table] = {}
    side_backends: Mapping[str, _Backend] = {}

    def find_numbers(self, own: str, destination: str, service: ObjectKey) -> set[int]:
        """Find the ports of a service that a destination of the port `own` sends to; empty for one with its number."""
        if destination.startswith(f"{own}/backend/"):
            _, _, number = destination.removeprefix(f"{own}/backend/").partition(":")
            number = number.partition("/")[0]
            return {int(number)} if number.isascii() and number.isdecimal() else set()
        return {
            backend.port
            for key, backend in self._list_backends(own)
            if key == destination and (backend.service, backend.namespace) == (service.name, service.namespace)
        } - {0}

    def build_rules(self, own: str) -> Mapping[str, tuple[RouteRule, ...]]:
        """Build the rules of the port, by the namespace of clients."""
        tables = {**({} if self.rules is None else {"": self.rules}), **self.consumers}
        return {
            namespace: tuple(
                RouteRule(
                    key=rule.key, matches=rule.matches, parts=frozenset(each.name_part(own) for each in rule.backends)
                )
                for rule in table.rules
            )
            for namespace, table in tables.items()
        }

    def _list_backends(self, own: str) -> Iterator[tuple[str, _Backend]]:
        """List backends with the key of their rule, or of a side service."""
        for table in (*(() if self.rules is None else (self.rules,)), *self.consumers.values()):
            for rule in table.rules:
                for backend in rule.backends:
                    yield rule.key, backend
        for name, backend in self.side_backends.items():
            yield f"{own}/side/{name}", backend


class _Pod(msgspec.Struct, rename="camel"):
    namespace: str
    service_account: str = ""


class _Service(msgspec.Struct, rename="camel"):
    name: str
    namespace: str
    traffic_type: str | None = None
    ports: tuple[_Port, ...] = ()
    annotations: Mapping[str, str] = {}
    additions: Mapping[str, Any] = {}

    @property
    def outside_account(self) -> ObjectKey:
        """The service account of its servers outside of the mesh; without a name, it has none."""
        return ObjectKey(self.namespace, parse_annotations(self.annotations).get(OUTSIDE_ACCOUNT, ""))


class _Account(msgspec.Struct, rename="camel"):
    service_account: str = ""
    namespace: str = ""


class _Target(msgspec.Struct):
    name: str
    namespace: str
    sources: tuple[_Account, ...] = ()


class _Topology(msgspec.Struct, rename="camel"):
    services: Mapping[str, _Service]
    pods: Mapping[str, _Pod]
    service_traffic_targets: Mapping[str, _Target] = {}


class Mesh:
    """The service ports of a topology, and the sources of its targets."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        """Read the topology. Raises msgspec.ValidationError if it is none."""
        self._topology = msgspec.convert(document, _Topology)
        self._accounts = {
            name: ObjectKey(pod.namespace, pod.service_account) for name, pod in self._topology.pods.items()
        }
        self._sources = {
            f"{target.name}@{target.namespace}": frozenset(
                ObjectKey(each.namespace, each.service_account) for each in target.sources
            )
            for target in self._topology.service_traffic_targets.values()
        }
        self._groups: dict[tuple[ObjectKey, int, bool], Mapping[Group, frozenset[tuple[str, int]]]] = {}
        for service in self._topology.services.values():
            for port in service.ports:
                place = (ObjectKey(service.namespace, service.name), port.port, port.protocol == "UDP")
                self._groups[place] = self._find_groups(port.servers, service.outside_account)
        self.ports: dict[tuple[str, bool], ServicePort] = {}
        """By key, and whether it is a UDP port."""
        self._by_account: dict[ObjectKey, list[tuple[ServicePort, Group]]] = {}
        for service in self._topology.services.values():
            for built in self._build_ports(service):
                self.ports[built.key, built.traffic_type == UDP] = built
                for group in built.groups:
                    self._by_account.setdefault(group.account, []).append((built, group))

    def __repr__(self) -> str:
        return f"<Mesh of {len(self.ports)} ports>"

    def find_port(self, key: str, traffic_type: str) -> ServicePort | None:
        """Find a service port."""
        return self.ports.get((key, traffic_type == UDP))

    def find_served(self, account: ObjectKey) -> Sequence[tuple[ServicePort, Group]]:
        """Find the service ports that pods of a service account serve, with the groups of these pods."""
        return self._by_account.get(account, ())

    def names_source(self, grant: Grant, client: ObjectKey) -> bool:
        """Whether the target of a grant names a service account among its sources."""
        return client in self._sources.get(grant.target, frozenset())

    def _find_groups(
        self, servers: Iterable[_Server], outside: ObjectKey
    ) -> Mapping[Group, frozenset[tuple[str, int]]]:
        """Group servers by service account and port; a server without an account is in none."""
        found: dict[Group, set[tuple[str, int]]] = {}
        for server in servers:
            account = outside if server.is_name else self._accounts.get(server.pod)
            if account is not None and account.name:
                found.setdefault(Group(account, server.port), set()).add((server.address, server.port))
        return {group: frozenset(places) for group, places in sorted(found.items())}

    def _build_ports(self, service: _Service) -> Iterator[ServicePort]:
        settings = _read_settings(service.additions.get("acl"))
        key = ObjectKey(service.namespace, service.name)
        for port in service.ports:
            is_udp = port.protocol == "UDP"
            traffic_type = port.traffic_type or service.traffic_type or "http"
            if (traffic_type == UDP) != is_udp:
                continue  # a port of another protocol, which is not routed
            destinations = settings.destinations
            if is_udp and not isinstance(settings.datagrams, msgspec.UnsetType):
                destinations = settings.datagrams
            own = build_port_key(key, port.port)
            yield ServicePort(
                service=key,
                number=port.port,
                traffic_type=traffic_type,
                groups=self._groups[key, port.port, is_udp],
                destinations={
                    name: tuple(
                        leaf
                        for each in leaves
                        for leaf in self._build_leaves(name, port, key, each.service, each.grants)
                    )
                    for name, leaves in destinations.items()
                    if name == own or name.startswith(f"{own}/")
                },
                rules=port.build_rules(own),
            )

    def _build_leaves(
        self, destination: str, port: _Port, called: ObjectKey, name: str, grants: tuple[Grant, ...]
    ) -> Iterator[Leaf]:
        """Build a leaf for each port of a service that a destination can mean; usually it has one."""
        service = _parse_name(name, called)
        numbers = port.find_numbers(build_port_key(called, port.port), destination, service)
        for number in sorted(numbers) or [port.port]:
            groups = self._groups.get((service, number, port.protocol == "UDP"), {})
            yield Leaf(service=service, number=number, groups=groups, grants=grants)


def _parse_name(name: str, called: ObjectKey) -> ObjectKey:
    """Read the name of a leaf, which is without namespace in that of the called service."""
    if not name:
        return called
    plain, _, namespace = name.partition("@")
    return ObjectKey(namespace or called.namespace, plain)


def _read_settings(addition: Any) -> AclSettings:
    """Read what access control found for a service; nothing if it is disabled, or of another version."""
    if not isinstance(addition, Mapping):
        return AclSettings()
    try:
        return msgspec.convert(addition, AclSettings)
    except msgspec.ValidationError:
        return AclSettings()
