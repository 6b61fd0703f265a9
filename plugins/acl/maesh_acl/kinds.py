"""SMI's TrafficTarget, read from any version. The fields of an object decide, and not its apiVersion.

An object with `spec` has all fields below it (v1alpha2, v1alpha3). One without has them at the top level, and its rules
are called `specs` (v1alpha1). An unknown field is a fault of the object, which then grants nothing. v1alpha4 is an
unreleased draft with other meanings; it is not read.
"""

import re
from collections.abc import Mapping
from typing import Annotated

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
    """A service account of clients."""

    kind: str = ""
    name: str = ""
    namespace: str = ""


class Destination(Account, frozen=True):
    """The service account of the called pods. `port` is a port of the pods: a number, or a text in v1alpha1."""

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
"""An empty list is a fault: it grants nothing, while a target without a list allows all HTTP requests."""


class TargetSpec(Part, frozen=True):
    """`spec` of a TrafficTarget, v1alpha2 and v1alpha3."""

    destination: Destination = Destination()
    sources: tuple[Account, ...] = ()
    rules: Rules = ()


class _BelowSpec(Part, frozen=True):
    spec: TargetSpec = TargetSpec()


class _AtTheTop(Part, frozen=True):
    """The fields of a TrafficTarget of v1alpha1, without its metadata."""

    destination: Destination = Destination()
    sources: tuple[Account, ...] = ()
    specs: Rules = ()


class TrafficTarget(CheckedResource, frozen=True):
    """access.smi-spec.io TrafficTarget, v1alpha1 to v1alpha3. One with faults grants nothing.

    A source without namespace matches no client (Maesh). Routes are in the target's namespace. Without rules, all HTTP
    requests are allowed.
    """

    destination: Destination = Destination()
    sources: tuple[Account, ...] = ()
    rules: tuple[Reference, ...] = ()

    @property
    def called_key(self) -> ObjectKey:
        """The service account of the destination; its default namespace is that of the target (Maesh)."""
        return ObjectKey(self.destination.namespace or self.metadata.namespace, self.destination.name)


def read_target(metadata: ObjectMeta, fields: Mapping[str, object]) -> TrafficTarget:
    """Read a TrafficTarget in either of its shapes."""
    if "spec" not in fields and not fields.keys().isdisjoint(_AtTheTop.__struct_encode_fields__):
        top, faults = decode_strictly(fields, _AtTheTop, other=_BelowSpec, synonyms={"rules": "specs"})
        destination, sources, rules = top.destination, top.sources, top.specs
    else:
        below, faults = decode_strictly(fields, _BelowSpec, other=_AtTheTop, synonyms={"specs": "rules"})
        destination, sources, rules = below.spec.destination, below.spec.sources, below.spec.rules
    return TrafficTarget(metadata=metadata, destination=destination, sources=sources, rules=rules, faults=faults)


def _index_by_destination(target: TrafficTarget) -> tuple[ObjectKey, ...]:
    return (target.called_key,)


def _index_by_references(target: TrafficTarget) -> list[str]:
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
"""Route groups and routes come from the smi plugin, which also reads TrafficSplits if it is enabled."""
