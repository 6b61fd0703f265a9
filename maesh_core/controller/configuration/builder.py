"""Builds the configuration of one service.

Takes a ServiceNode, the catalogue, and the entrypoints from the port table; returns a ServiceConfiguration. An error
closes the service, which is never served with less than it asks for. Only a port without an entrypoint is left out by
itself. Exceptions other than ConfigurationError are passed to the caller.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from maesh_core.controller.configuration.annotation_values import explain_unknown_app_protocol, parse_scheme
from maesh_core.controller.configuration.catalogue import Catalogue
from maesh_core.controller.configuration.encryption import add_modes, choose_mode
from maesh_core.controller.configuration.filters import add_filters
from maesh_core.controller.configuration.plugin_settings import render_settings
from maesh_core.errors import ConfigurationError
from maesh_core.model.annotations import LOAD_BALANCER, PREFIXES, add_plain_names, parse_annotations
from maesh_core.model.configuration import (
    HttpRouter,
    Middleware,
    PortStatus,
    Section,
    ServiceConfiguration,
    list_chains,
    list_targets,
)
from maesh_core.model.keys import ObjectKey, build_middleware_key, is_label
from maesh_core.model.schemes import DEFAULT_SCHEME
from maesh_core.model.topology import BackendNode, PortNode, RuleProblem, RuleTable, ServiceNode
from maesh_core.model.transport import ENCRYPTABLE, STRICT
from maesh_core.plugin_system.hookspecs import MiddlewareBuilder, Stage
from maesh_core.plugin_system.protocols import TrafficType
from maesh_core.process.printable import show_line

WAITING = "waits for its entrypoint to be written"
"""End of a temporary notice of a new service; it is shown, but neither logged nor written as an Event."""

_Pairs = tuple[tuple[PortNode, int], ...]
_FAILED = "the service could not be configured"
"""The reason that clients get after an unexpected exception; the full text is shown on the service."""


def plan_ports(node: ServiceNode, catalogue: Catalogue) -> tuple[PortNode, ...]:
    """List the ports with the protocol of the service's traffic type, whether or not the service has errors.

    Each needs an entrypoint; if the traffic type's range is exclusive, the port table must assign it.
    """
    traffic_type = _find_traffic_type(node, catalogue)
    if traffic_type is None:
        return ()
    return tuple(port for port in node.ports if port.protocol == traffic_type.transport)


def plan_claims(node: ServiceNode, catalogue: Catalogue) -> tuple[PortNode, ...]:
    """List the ports that need an exclusive entrypoint; a headless service has none."""
    return () if node.is_headless else plan_ports(node, catalogue)


def find_entrypoint(traffic_type: TrafficType, port: PortNode, entrypoints: Mapping[int, int]) -> int | None:
    """Find the entrypoint of a port: the assigned one, or its index in a shared range."""
    port_range = traffic_type.port_range
    if port_range.is_exclusive:
        return entrypoints.get(port.number)
    return port_range.first + port.index if port.index < port_range.limit else None


def plan_entrypoints(
    node: ServiceNode, catalogue: Catalogue, entrypoints: Mapping[int, int]
) -> tuple[tuple[PortNode, int], ...]:
    """Pair the service's ports with their entrypoints, whether or not the service has errors."""
    traffic_type = _find_traffic_type(node, catalogue)
    if traffic_type is None:
        return ()
    found = ((port, find_entrypoint(traffic_type, port, entrypoints)) for port in plan_ports(node, catalogue))
    return tuple((port, entrypoint) for port, entrypoint in found if entrypoint is not None)


def build_service_configuration(
    node: ServiceNode,
    *,
    catalogue: Catalogue,
    entrypoints: Mapping[int, int],
    pending: Collection[int] = (),
    errors: Sequence[str] = (),
) -> ServiceConfiguration:
    """Build one service's configuration.

    `entrypoints` maps port numbers to entrypoints for traffic types with exclusive ones. A port that is not in it is
    left out with an error, or with a notice if it is `pending`. Shared entrypoints are computed here. `errors` are
    further errors from the caller; each closes the service, and no middleware builder is called then, because one may
    be what failed.
    """
    return _Build(node, catalogue, errors, pending).run(entrypoints)


class _Build:
    """One build and its results so far. `errors` close the service; `port_errors` concern ports that are left out.

    `mode` is the service's mode, empty without a transport. `reasons` are the errors as clients read them. `observed`
    are the keys of middlewares outside of the chain. `shown_node` is the node as plugins read it.
    """

    __slots__ = (
        "annotations",
        "catalogue",
        "errors",
        "guards",
        "has_failed",
        "mode",
        "node",
        "notices",
        "observed",
        "pending",
        "port_errors",
        "reasons",
        "rule_problems",
        "shown_node",
    )

    def __init__(
        self, node: ServiceNode, catalogue: Catalogue, errors: Sequence[str], pending: Collection[int]
    ) -> None:
        self.node = node
        self.pending = pending
        self.catalogue = catalogue
        self.annotations = parse_annotations(node.annotations)
        self.shown_node = msgspec.structs.replace(node, annotations=add_plain_names(node.annotations))
        self.errors = [*node.errors, *errors]
        self.reasons = list(node.errors)
        self.guards: list[str] = []
        self.observed: set[str] = set()
        self.has_failed = bool(errors)
        self.mode = ""
        self.port_errors: list[str] = []
        self.rule_problems: tuple[RuleProblem, ...] = ()
        self.notices = list(node.notices)

    def run(self, entrypoints: Mapping[int, int]) -> ServiceConfiguration:
        self._note_unclaimed()
        traffic_type = _find_traffic_type(self.node, self.catalogue)
        if traffic_type is None:
            self._refuse_traffic_type()
            return self._finish(self._close_hosts(), ())
        pairs = self._assign_entrypoints(traffic_type, entrypoints)
        self._check_scheme()
        self._choose_mode(traffic_type)
        if traffic_type.name == "http":
            self._note_app_protocols(pairs)
        middlewares = {} if self.has_failed else self._build_middlewares(traffic_type)
        section = None if self.errors else self._build_section(traffic_type, pairs, middlewares)
        if section is None:
            closed = self._build_closed_section(traffic_type, pairs)
            return self._finish({traffic_type.name: closed} if closed.routers else {}, ())
        return self._finish({traffic_type.name: section}, pairs)

    def _finish(self, sections: Mapping[str, Section], pairs: _Pairs) -> ServiceConfiguration:
        entrypoint_by_port = {(port.number, port.protocol): entrypoint for port, entrypoint in pairs}
        ports = (
            self._describe_port(port, entrypoint_by_port.get((port.number, port.protocol)), sections)
            for port in self.node.ports
        )
        return ServiceConfiguration(
            sections=sections,
            ports=tuple(ports),
            errors=_collapse([*self.errors, *self.port_errors]),
            notices=_collapse([*self.notices, *map(describe_problem, (*self.node.rule_problems, *self.rule_problems))]),
            encryption=self.mode,
            rule_problems=self.rule_problems,
        )

    def _describe_port(self, port: PortNode, entrypoint: int | None, sections: Mapping[str, Section]) -> PortStatus:
        is_http = entrypoint is not None and "http" in sections
        return PortStatus(
            name=port.name,
            port=port.number,
            protocol=port.protocol,
            entrypoint=entrypoint,
            unserved="" if entrypoint is None else _explain_unserved(port),
            scheme=parse_scheme(self.annotations, port.app_protocol) if is_http else DEFAULT_SCHEME,
            app_protocol=port.app_protocol,
        )

    # --- what the annotations say ----------------------------------------------------------------------------------

    def _note_unclaimed(self) -> None:
        for full_name in sorted(self.node.annotations, key=lambda each: each.partition("/")[2]):
            mistake = self.catalogue.find_annotation_mistake(full_name)
            if mistake is not None:
                self.notices.append(f"annotation {full_name}: {mistake}")
        for name in self.annotations:
            balancer = self.catalogue.find_balancer(name)
            if balancer is not None and self.annotations.get(LOAD_BALANCER) != balancer:
                meant = f"it has no effect without {LOAD_BALANCER}: {balancer}"
                self.notices.append(f"annotation {_find_full_name(self.node, name)}: {meant}")

    def _refuse_traffic_type(self) -> None:
        if self.node.traffic_type is not None:
            self._refuse(self.catalogue.describe_unknown_type(self.node.traffic_type))

    def _close_hosts(self) -> dict[str, Section]:
        """Let the HTTP hosts of a service with an unsupported traffic type show the reason."""
        http = self.catalogue.traffic_types.get("http")
        if http is None:
            return {}
        ports = [port for port in self.node.ports if port.protocol == http.transport]
        found = ((port, find_entrypoint(http, port, {})) for port in ports)
        pairs = tuple((port, entrypoint) for port, entrypoint in found if entrypoint is not None)
        closed = self._build_closed_section(http, pairs)
        return {http.name: closed} if closed.routers else {}

    def _check_scheme(self) -> None:
        """Refuse an unknown scheme for every traffic type, as Maesh does, although only HTTP uses it."""
        try:
            parse_scheme(self.annotations)
        except ConfigurationError as error:
            self._refuse(error)

    def _choose_mode(self, traffic_type: TrafficType) -> None:
        """Let the transport choose the service's mode; traffic that cannot be encrypted must not be strict."""
        if self.catalogue.transport is None or self.has_failed:
            return
        try:
            self.mode = choose_mode(self.catalogue.transport, self.annotations, self.shown_node)
        except ConfigurationError as error:
            self._refuse(error)
            return
        if self.mode == STRICT and traffic_type.name not in ENCRYPTABLE:
            self._refuse(f"{traffic_type.name} cannot be encrypted, but the service's mode is {STRICT}")

    def _note_app_protocols(self, pairs: _Pairs) -> None:
        for port, _ in pairs:
            text = explain_unknown_app_protocol(self.annotations, port.app_protocol)
            if text:
                self.notices.append(f"port {port.number}: {text}")

    # --- ports -----------------------------------------------------------------------------------------------------

    def _assign_entrypoints(self, traffic_type: TrafficType, entrypoints: Mapping[int, int]) -> _Pairs:
        suitable = plan_ports(self.node, self.catalogue)
        for port in self.node.ports:
            if port.protocol != traffic_type.transport:
                self.notices.append(
                    f"port {port.number} is {port.protocol}, which {traffic_type.name} does not support"
                )
        if not suitable:
            self._refuse(
                f"no port for traffic type {traffic_type.name}, which needs one with protocol {traffic_type.transport}"
            )
        found = ((port, self._find_entrypoint(traffic_type, port, entrypoints)) for port in suitable)
        return tuple((port, entrypoint) for port, entrypoint in found if entrypoint is not None)

    def _find_entrypoint(self, traffic_type: TrafficType, port: PortNode, entrypoints: Mapping[int, int]) -> int | None:
        port_range = traffic_type.port_range
        entrypoint = find_entrypoint(traffic_type, port, entrypoints)
        if entrypoint is not None or (port_range.is_exclusive and self.node.is_headless):
            return entrypoint
        if port.number in self.pending:
            self.notices.append(f"port {port.number} {WAITING}")
            return None
        self.port_errors.append(
            f"port {port.number} has no entrypoint: all {port_range.limit} from {port_range.first} are in use"
            if port_range.is_exclusive
            else f"port {port.number} has no entrypoint: it is number {port.index + 1} of the service's ports, and "
            f"{traffic_type.name} has {port_range.limit} entrypoints from {port_range.first}"
        )
        return None

    # --- middlewares -----------------------------------------------------------------------------------------------

    def _build_middlewares(self, traffic_type: TrafficType) -> dict[str, Middleware]:
        """Build the middlewares, outermost first; those of the stages ADMISSION and OBSERVE for every traffic type."""
        chain: dict[str, Middleware] = {}
        for builder in self.catalogue.middleware_builders:
            claimed = {name: self.annotations[name] for name in builder.annotations if name in self.annotations}
            is_observed = builder.stage == Stage.OBSERVE
            if claimed and not traffic_type.has_middlewares and not is_observed:
                self.notices.extend(
                    f"annotation {_find_full_name(self.node, name)}: has no effect on {traffic_type.name}"
                    for name in claimed
                )
                claimed = {}
            if not (traffic_type.has_middlewares or is_observed or builder.stage == Stage.ADMISSION):
                continue
            middleware = self._build_middleware(builder, claimed)
            if middleware is not None:
                key = build_middleware_key(self.node.key, builder.kind)
                chain[key] = middleware
                if builder.stage == Stage.ADMISSION:
                    self.guards.append(key)
                elif is_observed:
                    self.observed.add(key)
        return chain

    def _build_middleware(self, builder: MiddlewareBuilder, annotations: Mapping[str, str]) -> Middleware | None:
        try:
            settings = builder.build_settings(annotations, self.shown_node)
            if settings is None:
                return None
            rendered = render_settings(settings, f"middleware {builder.kind}")
        except ConfigurationError as error:
            self._refuse(error)
            return None
        return Middleware(kind=builder.kind, settings=rendered)

    # --- sections --------------------------------------------------------------------------------------------------

    def _build_section(
        self, traffic_type: TrafficType, pairs: _Pairs, middlewares: Mapping[str, Middleware]
    ) -> Section | None:
        """Let the traffic type build the section; None if it refuses, with the error recorded."""
        chain = tuple(key for key in middlewares if key not in self.observed)
        try:
            section = traffic_type.build_section(
                self.shown_node, self.annotations, entrypoints=pairs, middlewares=chain
            )
            merged = msgspec.structs.replace(section, middlewares={**section.middlewares, **middlewares})
            merged, self.rule_problems = add_filters(
                merged, self.shown_node, ports=[port for port, _ in pairs], catalogue=self.catalogue
            )
            if self.mode and self.catalogue.transport is not None:
                merged = add_modes(merged, self.catalogue.transport, self.node, mode=self.mode)
            _check_section(self.node.key, merged)
            _check_guarded(merged, self.guards)
        except ConfigurationError as error:
            self._refuse(error)
            return None
        return merged

    def _build_closed_section(self, traffic_type: TrafficType, pairs: _Pairs) -> Section:
        if not (is_label(self.node.key.name) and is_label(self.node.key.namespace)):
            return Section()  # Its keys could be those of another service.
        reason = _collapse(self.reasons or [_FAILED])[0]
        try:
            section = traffic_type.build_closed_section(self.shown_node, entrypoints=pairs, reason=reason)
            _check_section(self.node.key, section)
            section = self.catalogue.close_section(section)
        except ConfigurationError as error:
            self._refuse(error)
            return Section()
        return section

    def _refuse(self, error: ConfigurationError | str) -> None:
        """Record an error that closes the service, and the part of it that clients may read."""
        self.errors.append(str(error))
        self.reasons.append(getattr(error, "reason", str(error)))


def _explain_unserved(port: PortNode) -> str:
    """Explain why nothing that serves the port's traffic has a ready server; empty if something has.

    A branch without conditions takes all traffic from the service's own servers, and so do rules.
    """
    if port.rules is not None:
        return _explain_unserved_rules(port.rules)
    backends = [backend for branch in port.branches for backend in branch.backends if backend.weight]
    if any(backend.servers for backend in backends):
        return ""
    if all(branch.matches for branch in port.branches):
        return port.unserved
    names = {f"{backend.service}": backend.port.unserved for backend in backends if backend.port is not None}
    reasons = "; ".join(f"{name}: {reason}" for name, reason in sorted(names.items()))
    return f"no backend of its split is ready ({reasons})" if reasons else "its split has no backend with weight"


def _explain_unserved_rules(table: RuleTable) -> str:
    """Explain why no backend of a port's rules has a ready server; empty if one has, or if there is no backend."""
    backends = [backend for rule in table.rules for backend in rule.backends if backend.weight]
    if not backends or any(backend.servers for backend in backends):
        return ""
    names = {str(backend.service): _explain_unserved_backend(backend) for backend in backends}
    return f"no backend of its rules is ready ({'; '.join(f'{name}: {names[name]}' for name in sorted(names))})"


def _explain_unserved_backend(backend: BackendNode) -> str:
    if backend.port is not None:
        return backend.port.unserved
    return backend.answer.reason if backend.answer is not None else "it has no port"


def describe_problem(problem: RuleProblem) -> str:
    """Describe a problem of a rule, as its Service shows it."""
    origin = "" if problem.origin is None else f" of {problem.origin[0].__name__} {problem.origin[1]}"
    name = problem.label or problem.rule or "any"
    return (
        f"port {problem.port}: rule {name}{origin}: {problem.text}" if name else f"port {problem.port}: {problem.text}"
    )


def _find_traffic_type(node: ServiceNode, catalogue: Catalogue) -> TrafficType | None:
    return None if node.traffic_type is None else catalogue.traffic_types.get(node.traffic_type)


def _find_full_name(node: ServiceNode, name: str) -> str:
    """Find the full name of an annotation, with the prefix that took effect."""
    full_names = [prefix + name for prefix in reversed(PREFIXES)]
    return next(full_name for full_name in full_names if full_name in node.annotations)


def _check_section(key: ObjectKey, section: Section) -> None:
    """Refuse keys outside the service's own namespace of keys, and references that do not resolve.

    A proxy applies a configuration completely or not at all, so one broken reference would block every change.
    """
    own = (f"{key.namespace}/{key.name}:", f"{key.namespace}/{key.name}/")
    for name in (*section.routers, *section.services, *section.middlewares):
        if not name.startswith(own):
            raise ConfigurationError(
                f"its traffic type returned the key {name!r}, which does not belong to the service"
            )
    for name, router in section.routers.items():
        for service in list_targets(router):
            if service not in section.services:
                raise ConfigurationError(f"its traffic type returned the router {name!r} without its service")
        if any(middleware not in section.middlewares for chain in list_chains(router) for middleware in chain):
            raise ConfigurationError(f"its traffic type returned the router {name!r} without one of its middlewares")

    for name, divided in section.services.items():
        if any(part.service not in section.services for part in getattr(divided, "parts", ())):
            raise ConfigurationError(f"its traffic type returned the service {name!r} without one of its parts")


def _check_guarded(section: Section, guards: Sequence[str]) -> None:
    """Refuse a router without the middlewares that control access, because it would admit everybody."""
    for name, router in section.routers.items():
        if isinstance(router, HttpRouter) and not list_targets(router):
            continue  # it is closed
        parts = (part for each in list_targets(router) for part in getattr(section.services[each], "parts", ()))
        chains = (*list_chains(router), *(part.middlewares for part in parts if part.middlewares))
        for guard in guards:
            if not all(guard in chain for chain in chains):
                raise ConfigurationError(
                    f"its traffic type returned the router {name!r} without the middleware {guard!r}"
                )


def _collapse(texts: Iterable[str]) -> tuple[str, ...]:
    """Show each text as one printable line, without duplicates."""
    return tuple(dict.fromkeys(map(show_line, texts)))
