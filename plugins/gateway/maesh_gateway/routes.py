"""Routes as they were read: parents, and rules with their matches, filters and backends.

Values only, built by reading/. A part that is wrong has a problem and does not spoil the others: `faults` of a route
are only what makes the whole object unusable, and even then its parents are known.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import msgspec

from maesh_core.plugin import CheckedResource, HttpMatch, ObjectKey

Reason = Literal["UnsupportedValue", "IncompatibleFilters"]

CORE_GROUPS = frozenset({"", "core"})
"""The group of Services; `core` is what people write for it, although the API server knows no such group."""


class _Value(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Base of the values."""


class ParentRef(_Value, frozen=True):
    """A parent of kind Service, the only ones that concern the mesh.

    `index` is that in `spec.parentRefs`, and `written` the object there. `section` is the name of a port, or empty. A
    parent with a `problem` is attached to nothing.
    """

    index: int
    service: ObjectKey
    section: str = ""
    port: int | None = None
    written: Mapping[str, Any] = {}
    problem: str = ""


class RouteFilter(_Value, frozen=True):
    """A filter, or a field of a rule that acts as one. `value` is as written; `mirror` is the backend of a mirror."""

    name: str
    value: Mapping[str, Any] = {}
    mirror: "BackendRef | None" = None


class BackendRef(_Value, frozen=True):
    """A reference to a backend. `key` may have names that no object can have."""

    key: ObjectKey
    port: int = 0
    weight: int = 1
    group: str = ""
    kind: str = "Service"
    filters: tuple[RouteFilter, ...] = ()


class RouteMatch(_Value, frozen=True):
    """A match, and its rank among the matches of one kind: lower ranks decide first.

    `patterns` is the number of its regular expressions, which use time and memory in all proxies. Large ones count as
    several.
    """

    match: HttpMatch = HttpMatch()
    rank: tuple[int, ...] = ()
    patterns: int = 0


class RuleProblem(_Value, frozen=True):
    """What is wrong with a rule. A dropped rule has no effect; any other answers its requests with an error."""

    rule: int
    reason: Reason
    text: str
    is_dropped: bool = False


class RouteRule(_Value, frozen=True):
    """A rule. One with a problem has no filters and no backends; a dropped one has no matches either.

    `size` is that of the rule as it is written, in bytes.
    """

    index: int
    label: str = ""
    matches: tuple[RouteMatch, ...] = ()
    filters: tuple[RouteFilter, ...] = ()
    backends: tuple[BackendRef, ...] = ()
    problem: RuleProblem | None = None
    size: int = 0


class Route(CheckedResource, frozen=True):
    """A route of any kind. `parents` are those that concern the mesh."""

    kind: ClassVar[str]
    rank: ClassVar[int]
    """Of several kinds on one port, the highest one is used (GEP-1294)."""
    traffic_type: ClassVar[str] = "http"
    protocol: ClassVar[str] = "TCP"
    """The protocol of the ports that it can be attached to."""
    is_grpc: ClassVar[bool] = False
    default_rules: ClassVar[tuple[Mapping[str, Any], ...]] = ()
    """The rules of a route that has none, as the API server writes them."""

    parents: tuple[ParentRef, ...] = ()
    rules: tuple[RouteRule, ...] = ()
    has_hostnames: bool = False
    ungrouped: tuple[int, ...] = ()
    """Places in `spec.parentRefs` of parents of kind Service in the default group, which are not the mesh's."""

    @property
    def shown(self) -> str:
        """The kind and the names, for messages."""
        return f"{self.kind} {self.metadata.namespace}/{self.metadata.name}"

    @property
    def age_key(self) -> tuple[str, str]:
        """Sorts routes of one kind: the oldest first, then by name; one of unknown age is the youngest (section 3)."""
        return (self.metadata.creation_timestamp or "~", f"{self.metadata.namespace}/{self.metadata.name}")

    @property
    def problems(self) -> tuple[RuleProblem, ...]:
        """What is wrong with its rules."""
        return tuple(rule.problem for rule in self.rules if rule.problem is not None)


class HttpRoute(Route, frozen=True):
    """gateway.networking.k8s.io HTTPRoute, v1 and v1beta1."""

    kind: ClassVar[str] = "HTTPRoute"
    rank: ClassVar[int] = 3
    default_rules: ClassVar[tuple[Mapping[str, Any], ...]] = ({},)


class GrpcRoute(Route, frozen=True):
    """gateway.networking.k8s.io GRPCRoute, v1."""

    kind: ClassVar[str] = "GRPCRoute"
    rank: ClassVar[int] = 4
    is_grpc: ClassVar[bool] = True


class TcpRoute(Route, frozen=True):
    """gateway.networking.k8s.io TCPRoute, v1 and v1alpha2."""

    kind: ClassVar[str] = "TCPRoute"
    rank: ClassVar[int] = 1
    traffic_type: ClassVar[str] = "tcp"


class UdpRoute(Route, frozen=True):
    """gateway.networking.k8s.io UDPRoute, v1 and v1alpha2."""

    kind: ClassVar[str] = "UDPRoute"
    rank: ClassVar[int] = 0
    traffic_type: ClassVar[str] = "udp"
    protocol: ClassVar[str] = "UDP"


class GrantFrom(_Value, frozen=True):
    """Objects that may refer: those of a kind in a namespace."""

    group: str
    kind: str
    namespace: str


class GrantTo(_Value, frozen=True):
    """Objects that may be referred to: those of a kind in the grant's namespace, or only the one of a name."""

    group: str
    kind: str
    name: str = ""


class ReferenceGrant(CheckedResource, frozen=True):
    """gateway.networking.k8s.io ReferenceGrant, v1 and v1beta1. One with faults grants nothing."""

    from_: tuple[GrantFrom, ...] = ()
    to: tuple[GrantTo, ...] = ()
