"""SMI's TrafficTarget, of any of its versions: the shape of an object decides, not its apiVersion.

An object with `spec` has all of its fields below it (v1alpha2, v1alpha3); one without has them at the top, and its
rules are called `specs` (v1alpha1). Whatever is not read is a fault of the object, which then grants nothing. v1alpha4
is a draft that was never released and means other things; it is not read.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from maesh_smi.kinds import KINDS as SMI_KINDS
from maesh_smi.kinds import Part, Reference

from maesh_core.plugin import (
    REFERENCES,
    CheckedResource,
    ConfigurationError,
    ObjectKey,
    ObjectMeta,
    ResourceKind,
    build_reference,
    decode_strictly,
)

SERVICE_ACCOUNT = "ServiceAccount"
_PORT = re.compile("0*([0-9]{1,5})").fullmatch
TARGETS_BY_DESTINATION = "destination"
"""TrafficTargets by the ObjectKey of the service account of their destination."""


class Account(Part, frozen=True):
    """A service account: who calls."""

    kind: str = ""
    name: str = ""
    namespace: str = ""


class Destination(Account, frozen=True):
    """Who is called. `port` is that of the pods, a number, as text in v1alpha1."""

    port: int | str | msgspec.UnsetType = msgspec.UNSET

    def read_port(self) -> int | None:
        """Read the port; raises ConfigurationError."""
        if self.port is msgspec.UNSET:
            return None
        text = str(self.port)
        match = _PORT(text)
        if match is None or not 1 <= int(match[1]) <= 65535:
            raise ConfigurationError(f"port {text[:20]!r} of the destination is not a valid port")
        return int(match[1])


Rules = Annotated[tuple[Reference, ...], msgspec.Meta(min_length=1)]
"""A list that is there and empty is a fault: it grants nothing, while a target without one opens all of HTTP."""


class TargetSpec(Part, frozen=True):
    """`spec` of a TrafficTarget, v1alpha2 and v1alpha3."""

    destination: Destination = Destination()
    sources: tuple[Account, ...] = ()
    rules: Rules = ()


class _BelowSpec(Part, frozen=True):
    spec: TargetSpec = TargetSpec()


class _AtTheTop(Part, frozen=True):
    """What a TrafficTarget of v1alpha1 has beside its metadata."""

    destination: Destination = Destination()
    sources: tuple[Account, ...] = ()
    specs: Rules = ()


class TrafficTarget(CheckedResource, frozen=True):
    """access.smi-spec.io TrafficTarget, v1alpha1 to v1alpha3. One with faults grants nothing.

    A source without namespace is nobody (Maesh). Routes are in the target's namespace. Without rules, all of HTTP.
    """

    destination: Destination = Destination()
    sources: tuple[Account, ...] = ()
    rules: tuple[Reference, ...] = ()

    @property
    def called_key(self) -> ObjectKey:
        """The service account that is called; a destination without namespace is in the target's own (Maesh)."""
        return ObjectKey(self.destination.namespace or self.metadata.namespace, self.destination.name)


def read_target(metadata: ObjectMeta, fields: Mapping[str, Any]) -> TrafficTarget:
    """Read a TrafficTarget in either of its shapes."""
    if "spec" not in fields and not fields.keys().isdisjoint(_AtTheTop.__struct_encode_fields__):
        top, faults = decode_strictly(fields, _AtTheTop, other=_BelowSpec, synonyms={"rules": "specs"})
        destination, sources, rules = top.destination, top.sources, top.specs
    else:
        below, faults = decode_strictly(fields, _BelowSpec, other=_AtTheTop, synonyms={"specs": "rules"})
        destination, sources, rules = below.spec.destination, below.spec.sources, below.spec.rules
    return TrafficTarget(metadata=metadata, destination=destination, sources=sources, rules=rules, faults=faults)


def _index_by_destination(target: Any) -> tuple[ObjectKey, ...]:
    return (target.called_key,)


def _index_by_references(target: Any) -> list[str]:
    namespace = target.metadata.namespace
    return [build_reference(rule.kind, ObjectKey(namespace, rule.name)) for rule in target.rules]


TARGET_KIND = ResourceKind(
    name="TrafficTarget",
    plural="traffictargets",
    api_versions=tuple(f"access.smi-spec.io/v1alpha{number}" for number in (3, 2, 1)),
    type=TrafficTarget,
    read=read_target,
    indexes={TARGETS_BY_DESTINATION: _index_by_destination, REFERENCES: _index_by_references},
)
KINDS = (*(kind for kind in SMI_KINDS if kind.name != "TrafficSplit"), TARGET_KIND)
"""Route groups and routes are the smi plugin's; a TrafficSplit is read where that one is enabled."""
