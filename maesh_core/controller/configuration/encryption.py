"""The mode of a service: how its traffic is encrypted, by the transport that is enabled.

Takes the rules of the transport, annotations without prefix, and a section; returns modes, and the section with them.
The annotations of a namespace are the defaults of its services, and where they require `strict`, no service may be
weaker. A part of a split has the stricter mode of the service and of the part. Raises ConfigurationError.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from maesh_core.errors import ConfigurationError
from maesh_core.model.annotations import parse_annotations, select_annotations
from maesh_core.model.configuration import Section, Service
from maesh_core.model.keys import build_port_key
from maesh_core.model.topology import BackendNode, ServiceNode
from maesh_core.model.transport import MODES, STRICT
from maesh_core.plugin_system.rules import plan_rules
from maesh_core.plugin_system.transports import TransportRules


def choose_mode(rules: TransportRules, annotations: Mapping[str, str], service: ServiceNode) -> str:
    """Choose the mode of a service; `annotations` are its own."""
    namespace = service.key.namespace
    defaults = _pick(rules, service.namespace_annotations.get(namespace, {}))
    try:
        least = _build_mode(rules, defaults, service) if defaults else ""
    except ConfigurationError as error:
        raise ConfigurationError(f"namespace {namespace}: {error}") from error
    mode = _build_mode(rules, {**defaults, **_pick(rules, annotations)}, service)
    if least == STRICT and mode != STRICT:
        raise ConfigurationError(f"its mode is {mode}, but its namespace {namespace} requires {STRICT} encryption")
    return mode


def add_modes(section: Section, rules: TransportRules, service: ServiceNode, *, mode: str) -> Section:
    """Set the mode of every service of a section."""
    backends: dict[str, BackendNode] = {}
    for port in service.ports:
        key = build_port_key(service.key, port.number)
        for branch in port.branches:
            backends.update({f"{key}/{branch.name}/{each.service.name}": each for each in branch.backends})
        backends.update(plan_rules(service.key, port).backends)
    return msgspec.structs.replace(
        section,
        services={
            key: _set_mode(each, _choose_stricter(rules, mode, backends.get(key), service))
            for key, each in section.services.items()
        },
    )


def _set_mode(service: Any, mode: str) -> Any:
    """Set the mode; what a plugin returned in place of a service is refused elsewhere."""
    return msgspec.structs.replace(service, encryption=mode) if isinstance(service, Service) else service


def _choose_stricter(rules: TransportRules, mode: str, backend: BackendNode | None, service: ServiceNode) -> str:
    """Choose between the modes of a service and of its part; a part with an error in its annotations is strict."""
    if backend is None:
        return mode
    part = ServiceNode(
        key=backend.service,
        traffic_type=service.traffic_type,
        annotations=backend.annotations,
        namespace_annotations=service.namespace_annotations,
    )
    try:
        if backend.port is None:
            annotations: Mapping[str, str] = parse_annotations(backend.annotations)
        else:
            annotations = select_annotations(backend.annotations, backend.port)
        own = choose_mode(rules, annotations, part)
    except ConfigurationError:  # it is an error on the part itself
        return STRICT
    return max(mode, own, key=MODES.index)


def _pick(rules: TransportRules, annotations: Mapping[str, str]) -> dict[str, str]:
    return {name: annotations[name] for name in rules.annotations if name in annotations}


def _build_mode(rules: TransportRules, annotations: Mapping[str, str], service: ServiceNode) -> str:
    try:
        mode = rules.build_mode(annotations, service)
    except ValueError as error:
        raise ConfigurationError(str(error)) from error
    if mode not in MODES:
        raise ConfigurationError(f"transport {rules.name} chose the unknown mode {mode!r}")
    return MODES[MODES.index(mode)]  # the identical object, so that a default is left out of the encoding
