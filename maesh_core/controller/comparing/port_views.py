"""The part of a state's configuration that decides about one service port, in a form that two states share.

Addresses of pods become service accounts, so that new addresses and replicas change nothing. Finds the accounts that
access rules name, and the matches of all rules.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from maesh_core.controller.mesh_states.state import MeshState
from maesh_core.model.configuration import HttpRouter, Section, list_chains, list_rule_sets, list_targets
from maesh_core.model.keys import ObjectKey, build_port_key
from maesh_core.model.matches import HttpMatch
from maesh_core.model.resources import Pod

ACCOUNT_MARK = "account "
"""Before a service account, `namespace/name`, in a normalised value: no other text of a configuration begins so."""


class PortName(NamedTuple):
    """A port of a service; `port` is as in `80/tcp`."""

    service: ObjectKey
    port: str

    @property
    def key(self) -> str:
        """Its key in the configuration."""
        return build_port_key(self.service, int(self.port.partition("/")[0]))


class PortView(NamedTuple):
    """What one state has of a port. `content` is equal if nothing that matters differs.

    `guard_settings` are the normalised settings of access control. `namespaces` have rules of their own.
    """

    traffic_type: str
    content: bytes
    guard_settings: tuple[Any, ...]
    matches: tuple[HttpMatch, ...]
    guard_matches: tuple[HttpMatch, ...]
    namespaces: frozenset[str]
    is_guarded: bool
    is_limited: bool = False
    """Whether access control lets clients reach some servers of a service only."""


class ViewBuilder:
    """Builds the views of one state's ports."""

    def __init__(self, state: MeshState) -> None:
        self._state = state
        self._names = dict(_name_addresses(state))

    def list_ports(self) -> dict[PortName, Mapping[str, Any]]:
        """List the ports of all services, with the documents of their services."""
        return {
            PortName(ObjectKey(each["namespace"], each["name"]), _show_port(port)): each
            for each in self._state.topology["services"].values()
            for port in each["ports"]
        }

    def build(self, name: PortName, service: Mapping[str, Any]) -> PortView:
        """Build the view of a port."""
        document = next(each for each in service["ports"] if _show_port(each) == name.port)
        kind = str(document.get("trafficType") or service["trafficType"])
        section = self._state.update.sections.get(kind, Section())
        fits = document.get("protocol", "TCP") == ("UDP" if kind == "udp" else "TCP")
        router = section.routers.get(name.key) if fits else None
        if router is None:
            content = msgspec.json.encode((kind, list(service["errors"])))
            return PortView(kind, content, (), (), (), frozenset(), bool(self._state.guards))
        services = _collect_services(section, router)
        chains = {key for chain in list_chains(router) for key in chain}
        chains |= {key for each in services for part in section.services[each].parts for key in part.middlewares}
        middlewares = {
            key: (section.middlewares[key].kind, self._normalise(section.middlewares[key].settings))
            for key in sorted(chains)
        }
        content = msgspec.json.encode(
            (
                kind,
                self._normalise(msgspec.to_builtins(router)),
                {key: self._normalise(_summarise(section, key)) for key in services},
                middlewares,
            ),
            order="deterministic",
        )
        guards = tuple(settings for each, settings in middlewares.values() if each in self._state.guards)
        is_closed = isinstance(router, HttpRouter) and router.service is None and not chains
        return PortView(
            kind,
            content,
            guards,
            tuple(_list_route_matches(router)),
            tuple(match for each in guards for match in _list_setting_matches(each)),
            frozenset(getattr(router, "consumers", ())),
            bool(guards) or (is_closed and bool(self._state.guards)),
            any(map(_has_servers, guards)),
        )

    def _normalise(self, value: Any) -> Any:
        """Replace addresses by accounts; lists in which something was replaced become sorted, without duplicates."""
        if isinstance(value, str):
            return self._names.get(value, value)
        if isinstance(value, Mapping):
            return {
                str(self._normalise(key)): self._normalise(each) for key, each in value.items() if key != "revision"
            }
        if not isinstance(value, list | tuple):
            return value
        found = [self._normalise(each) for each in value]
        if all(one == other for one, other in zip(found, value, strict=True)):
            return found
        by_text = {msgspec.json.encode(each, order="deterministic"): each for each in found}
        return [by_text[text] for text in sorted(by_text)]


def locate_accounts(settings: Iterable[Any]) -> dict[str, tuple[str, ...]]:
    """Find where normalised settings mention each account: accounts with the same places are treated alike."""
    found: dict[str, set[str]] = {}
    for place, value in enumerate(settings):
        _locate(value, str(place), found)
    return {account: tuple(sorted(places)) for account, places in found.items()}


def _locate(value: Any, place: str, found: dict[str, set[str]]) -> None:
    if isinstance(value, str):
        if value.startswith(ACCOUNT_MARK):
            found.setdefault(value.removeprefix(ACCOUNT_MARK), set()).add(place)
    elif isinstance(value, Mapping):
        for key, each in value.items():
            _locate(each, f"{place}.{key}", found)
    elif isinstance(value, list):
        for index, each in enumerate(value):
            _locate(each, place if isinstance(each, str) else f"{place}.{index}", found)


def _name_addresses(state: MeshState) -> Iterator[tuple[str, str]]:
    """Name the account that each address of a pod identifies, or all accounts that share it."""
    accounts: dict[str, set[str]] = {}
    for key in state.engine.objects.keys(Pod):
        pod = state.engine.objects.get(Pod, key)
        if pod is not None:
            network = " on a node's network" if pod.spec.host_network else ""
            for address in pod.addresses:
                found = accounts.setdefault(address, set())
                found.add(f"{pod.metadata.namespace}/{pod.spec.service_account_name}{network}")
    for address, names in accounts.items():
        yield address, ACCOUNT_MARK + " and ".join(sorted(names))


def _collect_services(section: Section, router: Any) -> list[str]:
    """Collect the keys of the services that a router can reach."""
    found = dict.fromkeys(list_targets(router))
    for key in list(found):
        service = section.services.get(key)
        if service is not None:
            found.update(dict.fromkeys(part.service for part in service.parts))
    return sorted(key for key in found if key in section.services)


def _summarise(section: Section, key: str) -> Any:
    """Reduce a service to what matters: whether it has servers, and not which ones."""
    document = msgspec.to_builtins(section.services[key])
    document["servers"] = any(each.weight for each in section.services[key].servers)
    return document


def _list_route_matches(router: Any) -> Iterator[HttpMatch]:
    for branch in getattr(router, "branches", ()):
        yield from branch.matches
    if isinstance(router, HttpRouter):
        for rules in list_rule_sets(router):
            yield from (each.match for each in rules.order)


def _list_setting_matches(value: Any) -> Iterator[HttpMatch]:
    """List the matches within settings: every list that is called `matches`."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            if key == "matches":
                yield from _read_matches(each)
            else:
                yield from _list_setting_matches(each)
    elif isinstance(value, list):
        for each in value:
            yield from _list_setting_matches(each)


def _has_servers(value: Any) -> bool:
    """Whether settings name servers: every list that is called `servers`."""
    if isinstance(value, Mapping):
        return bool(value.get("servers")) or any(map(_has_servers, value.values()))
    return isinstance(value, list) and any(map(_has_servers, value))


def _read_matches(value: Any) -> tuple[HttpMatch, ...]:
    try:
        return msgspec.convert(value, tuple[HttpMatch, ...])
    except msgspec.ValidationError:
        return ()  # a plugin's own kind of match


def _show_port(document: Mapping[str, Any]) -> str:
    return f"{document['port']}/{document.get('protocol', 'TCP').lower()}"
