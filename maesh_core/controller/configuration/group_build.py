"""Builds the part of one service's configuration that belongs to one group of its ports.

Takes a ServiceNode, a group of its ports (port_plan.py), the catalogue and the entrypoints; returns a GroupResult. An
error closes the ports that it concerns, usually the whole service; none is served with less than it asks for. Only a
port without an entrypoint is left out by itself.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from maesh_core.controller.configuration.annotation_values import (
    OWN,
    check_entrypoint,
    choose_scheme,
    explain_unknown_app_protocol,
    parse_egress_forwarded,
    parse_egress_host,
    parse_scheme,
)
from maesh_core.controller.configuration.catalogue import Catalogue
from maesh_core.controller.configuration.encryption import add_modes, choose_mode
from maesh_core.controller.configuration.filters import add_filters
from maesh_core.controller.configuration.plugin_settings import render_settings
from maesh_core.controller.configuration.port_plan import (
    PlacedPort,
    PortGroup,
    find_entrypoint,
    find_full_name,
    has_own_entrypoints,
    place_ports,
    show_group,
)
from maesh_core.controller.configuration.ranges import Entrypoints, PendingPorts, find_own_range, name_own_range
from maesh_core.controller.configuration.section_checks import check_guarded, check_section
from maesh_core.errors import ConfigurationError
from maesh_core.model.annotations import (
    ENTRYPOINT,
    SCHEME,
    SERVER_NAME,
    TRAFFIC_TYPE,
    parse_server_name,
    parse_stream_scheme,
)
from maesh_core.model.configuration import HttpRouter, Middleware, Section
from maesh_core.model.keys import ObjectKey, build_middleware_key, build_port_key, is_label
from maesh_core.model.schemes import ENCRYPTED_SCHEMES, TLS
from maesh_core.model.topology import PortNode, RuleProblem, ServiceNode
from maesh_core.model.transport import ENCRYPTABLE, STRICT
from maesh_core.plugin_system.hookspecs import MiddlewareBuilder, Stage
from maesh_core.plugin_system.protocols import TrafficType
from maesh_core.process.printable import show_line

WAITING = "waits for its entrypoint to be written"
"""End of a temporary notice of a new service; it is shown, but neither logged nor written as an Event."""

_Pairs = tuple[tuple[PortNode, int], ...]
_FAILED = "the service could not be configured"
"""The reason that clients get after an unexpected exception; the full text is shown on the service."""


class GroupResult(NamedTuple):
    """The result for one group of ports; `places` are the ports that are served, or closed with a reason.

    `sections` has one section by the name of its traffic type, or none. `errors`, `port_errors` and `mode` are those of
    the build. `rule_problems` are the filters of rules that could not be built.
    """

    group: PortGroup
    sections: Mapping[str, Section]
    places: Sequence[PlacedPort]
    errors: Sequence[str]
    port_errors: Sequence[str]
    notices: Sequence[str]
    mode: str
    rule_problems: Sequence[RuleProblem]


class GroupBuild:
    """The build of one group of ports and its results so far.

    `errors` close these ports; `port_errors` concern ports that are left out. `mode` is their mode, empty without a
    transport. `reasons` are the errors as clients read them. `observed` are the keys of middlewares outside of the
    chain. `shown_node` is the node as plugins read it. `must_serve`: it is an error if there is no port to serve.
    `shared_middlewares` are those of ports without annotations of their own, by traffic type and key.
    """

    __slots__ = (
        "annotations",
        "catalogue",
        "errors",
        "group",
        "guards",
        "has_failed",
        "mode",
        "must_serve",
        "node",
        "notices",
        "observed",
        "pending",
        "port_errors",
        "reasons",
        "rule_problems",
        "shared_middlewares",
        "shown_node",
    )

    def __init__(
        self,
        node: ServiceNode,
        group: PortGroup,
        catalogue: Catalogue,
        *,
        errors: Sequence[str],
        pending: PendingPorts,
        shared_middlewares: dict[tuple[str | None, str], Middleware],
        must_serve: bool,
    ) -> None:
        self.node = node
        self.group = group
        self.pending = pending
        self.catalogue = catalogue
        self.annotations = group.annotations
        self.must_serve = must_serve
        self.shared_middlewares = shared_middlewares
        self.shown_node = show_group(node, group)
        self.errors = [*node.errors, *errors]
        self.reasons = list(node.errors)
        self.guards: list[str] = []
        self.observed: set[str] = set()
        self.has_failed = bool(errors)
        self.mode = ""
        self.port_errors: list[str] = []
        self.rule_problems: tuple[RuleProblem, ...] = ()
        self.notices: list[str] = []
        if group.problem:
            self._refuse(group.problem)

    def run(self, entrypoints: Entrypoints) -> GroupResult:
        """Build the group, with the entrypoints that the port table has assigned."""
        traffic_type = self.group.traffic_type
        if traffic_type is None:
            self._refuse_traffic_type()
            return self._finish(self._close_hosts(), ())
        places = self._place_ports(traffic_type, entrypoints)
        pairs = tuple((place.port, place.entrypoint or place.own_entrypoint) for place in places)
        self._check_annotations(traffic_type)
        self._choose_mode(traffic_type)
        self._note_idle_schemes(traffic_type, pairs)
        if traffic_type.name == "http":
            self._note_app_protocols(pairs)
        middlewares = {} if self.has_failed else self._build_middlewares(traffic_type)
        section = None if self.errors else self._build_section(traffic_type, pairs, middlewares)
        if section is None:
            closed = _add_own_entrypoints(self.node.key, self._build_closed_section(traffic_type, pairs), places)
            return self._finish({traffic_type.name: closed} if closed.routers else {}, ())
        return self._finish({traffic_type.name: _add_own_entrypoints(self.node.key, section, places)}, places)

    def _finish(self, sections: Mapping[str, Section], places: Sequence[PlacedPort]) -> GroupResult:
        return GroupResult(
            self.group, sections, places, self.errors, self.port_errors, self.notices, self.mode, self.rule_problems
        )

    # --- what the annotations say ----------------------------------------------------------------------------------

    def _refuse_traffic_type(self) -> None:
        if self.group.type_name is not None:
            self._refuse(self.catalogue.describe_unknown_type(self.group.type_name))

    def _close_hosts(self) -> dict[str, Section]:
        """Let the HTTP hosts of a service with an unsupported traffic type show the reason."""
        http = self.catalogue.traffic_types.get("http")
        if http is None:
            return {}
        ports = [port for port in self.group.ports if port.protocol == http.transport]
        found = ((port, find_entrypoint(http, port, {})) for port in ports)
        pairs = tuple((port, entrypoint) for port, entrypoint in found if entrypoint is not None)
        closed = self._build_closed_section(http, pairs)
        return {http.name: closed} if closed.routers else {}

    def _check_annotations(self, traffic_type: TrafficType) -> None:
        """Refuse an unknown scheme for every traffic type, as Maesh does, although not all of them use it."""
        try:
            if traffic_type.name == "http":
                parse_scheme(self.annotations)
            else:
                parse_stream_scheme(self.annotations, getattr(traffic_type, "schemes", ()))
            parse_server_name(self.annotations)
            check_entrypoint(self.annotations)
            parse_egress_host(self.annotations)
            parse_egress_forwarded(self.annotations)
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

    def _note_idle_schemes(self, traffic_type: TrafficType, pairs: _Pairs) -> None:
        """Note annotations that look as if the servers got TLS, although they do not."""
        if self.has_failed or self.errors:
            return
        if traffic_type.name == "http":
            schemes = {choose_scheme(self.annotations, port) for port, _ in pairs}
        else:
            schemes = {parse_stream_scheme(self.annotations, getattr(traffic_type, "schemes", ()))}
            if self.annotations.get(SCHEME) == "https":
                self._note_without_effect(SCHEME, f"{traffic_type.name}; only scheme {TLS} opens TLS to tcp servers")
        if SERVER_NAME in self.annotations and schemes.isdisjoint(ENCRYPTED_SCHEMES):
            self._note_without_effect(SERVER_NAME, "servers without TLS")

    def _note_app_protocols(self, pairs: _Pairs) -> None:
        for port, _ in pairs:
            text = explain_unknown_app_protocol(self.annotations, port.app_protocol)
            if text:
                self.notices.append(f"port {port.number}: {text}")

    # --- ports -----------------------------------------------------------------------------------------------------

    def _place_ports(self, traffic_type: TrafficType, entrypoints: Entrypoints) -> tuple[PlacedPort, ...]:
        for port in self.group.ports:
            if port.protocol != traffic_type.transport:
                self.notices.append(
                    f"port {port.number} is {port.protocol}, which {traffic_type.name} does not support; "
                    f"{port.name or port.number}.{TRAFFIC_TYPE} selects another type"
                )
        if self.must_serve:
            self._refuse(
                f"no port for traffic type {traffic_type.name}, which needs one with protocol {traffic_type.transport}"
            )
        if ENTRYPOINT in self.annotations and find_own_range(traffic_type) is None:
            why = "" if traffic_type.port_range.is_exclusive else ": there are no own entrypoints"
            self._note_without_effect(ENTRYPOINT, f"{traffic_type.name}{why}")
        places = tuple(place_ports(self.group, entrypoints))
        for place in places:
            self._explain_missing(traffic_type, place)
        return tuple(place for place in places if place.target)

    def _explain_missing(self, traffic_type: TrafficType, place: PlacedPort) -> None:
        """Explain why a port has no entrypoint, or none of its own."""
        port, port_range = place.port, traffic_type.port_range
        if has_own_entrypoints(self.group) and not place.own_entrypoint:
            self._explain_missing_own(traffic_type, port)
        if place.target or (port_range.is_exclusive and self.node.is_headless):
            return
        if port.number in self.pending.get(traffic_type.name, ()):
            self.notices.append(f"port {port.number} {WAITING}")
            return
        self.port_errors.append(
            f"port {port.number} has no entrypoint: all {port_range.limit} from {port_range.first} are in use"
            if port_range.is_exclusive
            else f"port {port.number} has no entrypoint: it is number {port.index + 1} of the service's ports, and "
            f"{traffic_type.name} has {port_range.limit} entrypoints from {port_range.first}"
        )

    def _explain_missing_own(self, traffic_type: TrafficType, port: PortNode) -> None:
        own_range = find_own_range(traffic_type)
        if own_range is None:
            return
        if self.node.is_headless:
            if self.annotations.get(ENTRYPOINT) == OWN:
                self._note_without_effect(ENTRYPOINT, "a headless service")
        elif port.number in self.pending.get(name_own_range(traffic_type), ()):
            self.notices.append(f"port {port.number} {WAITING}")
        else:
            self.port_errors.append(
                f"port {port.number} has no entrypoint of its own, so it shares one: "
                f"all {own_range.limit} from {own_range.first} are in use"
            )

    def _note_without_effect(self, name: str, what: str) -> None:
        self.notices.append(f"annotation {find_full_name(self.node, name, self.group)}: has no effect on {what}")

    # --- middlewares -----------------------------------------------------------------------------------------------

    def _build_middlewares(self, traffic_type: TrafficType) -> dict[str, Middleware]:
        """Build the middlewares, outermost first; those of the stages ADMISSION and OBSERVE for every traffic type."""
        chain: dict[str, Middleware] = {}
        for builder in self.catalogue.middleware_builders:
            claimed = {name: self.annotations[name] for name in builder.annotations if name in self.annotations}
            is_observed = builder.stage == Stage.OBSERVE
            is_for_all = is_observed or getattr(builder, "has_stream_annotations", False)
            if claimed and not traffic_type.has_middlewares and not is_for_all:
                for name in claimed:
                    self._note_without_effect(name, traffic_type.name)
                claimed = {}
            if not (traffic_type.has_middlewares or is_observed or builder.stage == Stage.ADMISSION):
                continue
            middleware = self._build_middleware(builder, claimed)
            if middleware is not None:
                key = self._choose_key(builder.kind, middleware)
                chain[key] = middleware
                if builder.stage == Stage.ADMISSION:
                    self.guards.append(key)
                elif is_observed:
                    self.observed.add(key)
        return chain

    def _choose_key(self, kind: str, middleware: Middleware) -> str:
        """Choose the key of a middleware: the service's, or that of a port for which it differs."""
        key = build_middleware_key(self.node.key, kind)
        place = (self.group.type_name, key)
        if not self.group.own_port:
            self.shared_middlewares[place] = middleware
        elif self.shared_middlewares.get(place) != middleware:
            return build_middleware_key(self.node.key, kind, self.group.own_port)
        return key

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
            check_section(self.node.key, merged)
            check_guarded(merged, self.guards)
        except ConfigurationError as error:
            self._refuse(error)
            return None
        return merged

    def _build_closed_section(self, traffic_type: TrafficType, pairs: _Pairs) -> Section:
        if not (is_label(self.node.key.name) and is_label(self.node.key.namespace)):
            return Section()  # Its keys could be those of another service.
        reason = collapse_texts(self.reasons or [_FAILED])[0]
        try:
            section = traffic_type.build_closed_section(self.shown_node, entrypoints=pairs, reason=reason)
            check_section(self.node.key, section)
            section = self.catalogue.close_section(section)
        except ConfigurationError as error:
            self._refuse(error)
            return Section()
        return section

    def _refuse(self, error: ConfigurationError | str) -> None:
        """Record an error that closes the ports, and the part of it that clients may read."""
        place = f"port {self.group.own_port}: " if self.group.own_port else ""
        self.errors.append(f"{place}{error}")
        self.reasons.append(f"{place}{getattr(error, 'reason', error)}")


def _add_own_entrypoints(key: ObjectKey, section: Section, places: Iterable[PlacedPort]) -> Section:
    """Add the own entrypoints of ports to their routers."""
    own = {build_port_key(key, place.port.number): place.own_entrypoint for place in places if place.own_entrypoint}
    if not own:
        return section
    routers = {
        name: msgspec.structs.replace(router, own_entrypoint=own[name])
        if name in own and isinstance(router, HttpRouter)
        else router
        for name, router in section.routers.items()
    }
    return msgspec.structs.replace(section, routers=routers)


def collapse_texts(texts: Iterable[str]) -> tuple[str, ...]:
    """Show each text as one printable line, without duplicates."""
    return tuple(dict.fromkeys(map(show_line, texts)))
