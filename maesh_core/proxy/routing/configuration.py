"""The current configuration of a worker; applies each update completely or not at all.

Takes updates. Every protocol's handler compiles its part first; only if all succeed, the new tables are applied.
Routers that are refused alone are recorded with their reasons. It opens no sockets: it returns the entrypoints to open.
"""

from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from maesh_core.errors import UpdateRejectedError
from maesh_core.model.configuration import Middleware, Section
from maesh_core.model.keys import build_wire_path
from maesh_core.model.messages import Update
from maesh_core.model.names import AddressTable
from maesh_core.model.optional_sections import SECTION_FORMS
from maesh_core.model.transport import ENCRYPTABLE
from maesh_core.plugin_system.hookspecs import MiddlewareFactory
from maesh_core.plugin_system.protocols import ProtocolHandler
from maesh_core.proxy.balancing.kinds import BalancerKinds
from maesh_core.proxy.routing.checks import check_update, parse_wire_path
from maesh_core.proxy.routing.clients_section import CurrentClients
from maesh_core.proxy.routing.current_pod_names import CurrentPodNames
from maesh_core.proxy.routing.sections import Change, Refusal, ResolvedSection, narrow_change, resolve_section
from maesh_core.proxy.routing.transport_section import CurrentSection, NodeUser
from maesh_core.proxy.routing.wanted_entrypoint import WantedEntrypoint


class _Step(msgspec.Struct, frozen=True):
    """One protocol's part of the next configuration, compiled. `table` is None if the protocol has no handler."""

    section: ResolvedSection
    table: Any


class RoutingConfiguration:
    """The current configuration. `revision` is None before the first update; `refused` maps wire paths to reasons.

    `guards` names the enabled plugins that decide about access. An update lists in `plugins` those it was made with. If
    a guard is missing there, or there is no list, all routers answer 403.

    An update that was made without the plugin of the enabled transport, `encryption`, is rejected, because it would let
    strict services be sent in clear.

    `pod_names` is None if nothing in the worker uses the names of pods; the section `pods` is then ignored.
    """

    __slots__ = (
        "_addresses",
        "_balancers",
        "_clients",
        "_encryption",
        "_factories",
        "_guards",
        "_handlers",
        "_own_entrypoints",
        "_pod_names",
        "_sections",
        "_transport",
        "refused",
        "revision",
    )

    def __init__(
        self,
        handlers: Mapping[str, ProtocolHandler],
        factories: Mapping[str, MiddlewareFactory],
        *,
        guards: Collection[str],
        balancers: BalancerKinds,
        transport: NodeUser | None = None,
        encryption: str | None = None,
        own_entrypoints: frozenset[WantedEntrypoint] = frozenset(),
        pod_names: CurrentPodNames | None = None,
    ) -> None:
        self._handlers = handlers
        self._balancers = balancers
        self._factories = factories
        self._guards = frozenset(guards)
        self._sections: dict[str, ResolvedSection] = {}
        self._transport = CurrentSection(transport)
        self._encryption = encryption
        self._own_entrypoints = own_entrypoints
        self._pod_names = pod_names
        self._clients = CurrentClients()
        self._addresses: AddressTable = {}
        self.revision: str | None = None
        self.refused: Mapping[str, str] = {}

    def __repr__(self) -> str:
        """Show the current configuration."""
        return f"<RoutingConfiguration {self.revision} of {sorted(self._sections)}, {len(self.refused)} refused>"

    def get_router_types(self) -> dict[str, type[Any]]:
        """Return the type into which the routers of each loaded protocol are decoded."""
        return {name: handler.router_type for name, handler in self._handlers.items()}

    @property
    def node_type(self) -> type[Any] | None:
        """The type into which the nodes of the section `transport` are decoded; None if it is not read."""
        return self._transport.node_type

    @property
    def reads_pods(self) -> bool:
        """Whether the section `pods` is read."""
        return self._pod_names is not None

    def apply_update(self, update: Update, *, since: str | None) -> None:
        """Apply an update that was pulled with `since`, or raise UpdateRejectedError and change nothing."""
        steps = self._compile_update(update, since)
        self._transport.apply(self._transport.merge(update))  # the tables' connections depend on it
        self._apply_clients(update)
        for protocol, step in steps.items():
            if protocol in self._handlers:
                self._handlers[protocol].apply_table(step.table)
        if self._pod_names is not None:
            self._pod_names.apply(update)
        sections = {**self._sections, **{protocol: step.section for protocol, step in steps.items()}}
        self._sections = {
            protocol: section
            for protocol, section in sections.items()
            if protocol in self._handlers or section.received != Section()
        }
        self.revision = update.revision
        self.refused = {
            build_wire_path(protocol, "routers", key): refusal.text
            for protocol, section in self._sections.items()
            for key, refusal in section.refused.items()
        }

    def apply_addresses(self, table: AddressTable) -> None:
        """Use these addresses of names from now on. Raises UpdateRejectedError if a handler refuses them."""
        steps: dict[str, _Step] = {}
        for protocol, section in self._sections.items():
            changed = {
                key: section.received.services[key]
                for key in section.named
                if any(
                    table.get(each.name) != self._addresses.get(each.name)
                    for each in section.received.services[key].names
                )
            }
            if changed and protocol in self._handlers:
                change = Change(section=Section(services=changed), is_full=False)
                steps[protocol] = self._compile_section(protocol, change, section.section_refusal, table)
        self._addresses = table
        for protocol, step in steps.items():
            self._handlers[protocol].apply_table(step.table)
        self._sections = {
            protocol: steps[protocol].section
            if protocol in steps
            else msgspec.structs.replace(section, addresses=table)
            for protocol, section in self._sections.items()
        }

    def _apply_clients(self, update: Update) -> None:
        """Pass the namespaces of clients on to the handlers that use them."""
        if self._clients.apply(update):
            for handler in self._handlers.values():
                apply_namespaces = getattr(handler, "apply_namespaces", None)
                if apply_namespaces is not None:
                    apply_namespaces(self._clients.namespaces)

    def list_middlewares(self) -> list[Mapping[str, Middleware]]:
        """Return the middlewares of each protocol, by key, as they were received."""
        return [section.received.middlewares for section in self._sections.values()]

    def has_service(self, key: str) -> bool:
        """Whether the current configuration has a service or a router with this key; a closed service has a router."""
        return any(
            key in section.received.services or key in section.received.routers for section in self._sections.values()
        )

    def list_entrypoints(self) -> frozenset[WantedEntrypoint]:
        """Return the entrypoints that routers name, and the transport's.

        If two protocols name the same port, both are included.
        """
        return self._own_entrypoints | frozenset(
            WantedEntrypoint(self._handlers[protocol].transport, port, protocol)
            for protocol, section in self._sections.items()
            if protocol in self._handlers
            for port in section.entrypoints
        )

    def get_section(self, protocol: str) -> ResolvedSection:
        """Return the current part of a protocol; empty if there is none."""
        return self._sections.get(protocol, ResolvedSection())

    def _compile_update(self, update: Update, since: str | None) -> dict[str, _Step]:
        if not update.full and (since is None or since != self.revision):
            raise UpdateRejectedError("received a partial configuration, but a full one is needed")
        if self._encryption is not None and self._encryption not in update.plugins:
            raise UpdateRejectedError(f"it was made without plugin {self._encryption}, which this proxy encrypts with")
        check_update(update)
        if self._pod_names is not None:
            self._pod_names.check(update)
        return {
            protocol: self._compile_section(protocol, change, self._find_section_refusal(protocol, update))
            for protocol, change in self._sort_changes(update).items()
        }

    def _sort_changes(self, update: Update) -> dict[str, Change]:
        """Split an update by protocol, without protocols for which nothing changes."""
        removed: dict[str, dict[str, list[str]]] = {}
        for path in update.removed:
            protocol, noun, key = parse_wire_path(path)
            if protocol in SECTION_FORMS:
                continue
            removed.setdefault(protocol, {}).setdefault(noun, []).append(key)
        changes = {}
        for protocol in sorted({*self._handlers, *self._sections, *update.sections, *removed}):
            change = Change(
                section=update.sections.get(protocol, Section()),
                removed=removed.get(protocol, {}),
                is_full=update.full,
            )
            current = self._sections.get(protocol)
            if current is None:
                changes[protocol] = change
                continue
            change = narrow_change(current.received, change)
            if change.has_content or current.section_refusal != self._find_section_refusal(protocol, update):
                changes[protocol] = change
        return changes

    def _find_section_refusal(self, protocol: str, update: Update) -> Refusal | None:
        """Return the reason to refuse every router of a protocol, if there is one."""
        missing = self._guards.difference(update.plugins)
        if missing:
            return Refusal(f"the configuration was made without plugin {min(missing)}, which this proxy enforces", 403)
        if protocol not in self._handlers:
            return Refusal(f"protocol {protocol} is not loaded by this proxy")
        return None

    def _compile_section(
        self, protocol: str, change: Change, section_refusal: Refusal | None, addresses: AddressTable | None = None
    ) -> _Step:
        handler = self._handlers.get(protocol)
        resolved, changed = resolve_section(
            self.get_section(protocol),
            change,
            factories=self._factories if handler is not None else {},
            balancers=self._balancers,
            section_refusal=section_refusal,
            is_encryptable=protocol in ENCRYPTABLE,
            addresses=self._addresses if addresses is None else addresses,
        )
        if handler is None:
            return _Step(resolved, None)
        instances = {
            key: compiled.instance
            for key, compiled in resolved.middlewares.items()
            if compiled.instance is not None  # routers of others are refused
        }
        try:
            return _Step(resolved, handler.compile_table(resolved.section, middlewares=instances, changed=changed))
        except Exception as error:  # the handler may be a plugin's; by its contract, raising refuses the update
            raise UpdateRejectedError(f"protocol {protocol} refused it: {type(error).__name__}: {error}") from error
