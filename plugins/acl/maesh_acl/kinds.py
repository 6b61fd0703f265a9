"""SMI's TrafficTarget, of any of its versions: the shape of an object decides, not its apiVersion.

v1alpha4 is a draft that was never released and means other things; it is not read.
"""

from typing import Any

import msgspec
from maesh_smi.kinds import KINDS as SMI_KINDS
from maesh_smi.kinds import Reference

from maesh_core.plugin import REFERENCES, ConfigurationError, ObjectKey, Resource, ResourceKind, build_reference

SERVICE_ACCOUNT = "ServiceAccount"
TARGETS_BY_DESTINATION = "destination"
"""TrafficTargets by the ObjectKey of the service account of their destination."""


class Account(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A service account: who calls, or who is called. `port` is that of the pods, a number, as text in v1alpha1."""

    kind: str = ""
    name: str = ""
    namespace: str = ""
    port: int | str | None = None

    def read_port(self) -> int | None:
        """Read the port; raises ConfigurationError."""
        if self.port is None or self.port == "":
            return None
        text = str(self.port)
        if not (text.isascii() and text.isdecimal() and 1 <= int(text[:6]) <= 65535):
            raise ConfigurationError(f"port {text[:20]!r} of the destination is no port")
        return int(text)


class TargetSpec(msgspec.Struct, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """`spec` of a TrafficTarget, v1alpha2 and later.

    Unknown fields are refused: a misspelt rule would limit nothing.
    """

    destination: Account | None = None
    sources: tuple[Account, ...] = ()
    rules: tuple[Reference, ...] = ()


class TrafficTarget(Resource, frozen=True):
    """access.smi-spec.io TrafficTarget, v1alpha1 to v1alpha3."""

    destination: Account | None = None
    sources: tuple[Account, ...] = ()
    specs: tuple[Reference, ...] = ()
    spec: TargetSpec = TargetSpec()

    @property
    def called(self) -> Account:
        """Who is called; a destination without namespace is in the target's own (Maesh)."""
        return self.spec.destination or self.destination or Account()

    @property
    def callers(self) -> tuple[Account, ...]:
        """Who may call; one without namespace is nobody (Maesh)."""
        return (*self.sources, *self.spec.sources)

    @property
    def rules(self) -> tuple[Reference, ...]:
        """What may be called for; the routes are in the target's namespace."""
        return (*self.specs, *self.spec.rules)

    @property
    def called_key(self) -> ObjectKey:
        """The service account that is called."""
        return ObjectKey(self.called.namespace or self.metadata.namespace, self.called.name)


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
    indexes={TARGETS_BY_DESTINATION: _index_by_destination, REFERENCES: _index_by_references},
)
KINDS = (*(kind for kind in SMI_KINDS if kind.name != "TrafficSplit"), TARGET_KIND)
"""Route groups and routes are the smi plugin's; a TrafficSplit is read where that one is enabled."""
