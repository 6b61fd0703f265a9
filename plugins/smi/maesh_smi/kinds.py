"""SMI's kinds, read from any version into one form. The fields of an object decide, and not its apiVersion.

Takes the fields of an object without its metadata. If there is a `spec`, all fields are below it. In an HTTPRouteGroup
without `spec` they are at the top level (v1alpha1, v1alpha2). Unknown fields and values of another type are faults,
because a misspelt field would limit nothing. Fields that depend on other objects are checked when they are used, and
raise ConfigurationError, so that an invalid object affects only itself. KINDS, at the end, lists the versions that are
read; acl has those of TrafficTarget.
"""

import re
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Annotated

import msgspec

from maesh_core.plugin import (
    REFERENCES,
    CheckedResource,
    ConfigurationError,
    HeaderMatch,
    HttpMatch,
    ObjectKey,
    ObjectMeta,
    ResourceKind,
    build_reference,
    decode_strictly,
    find_match_problem,
    weigh_pattern,
)

_SUFFIXES = {
    "": Fraction(1),
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    "k": Fraction(10**3),
    "M": Fraction(10**6),
    "G": Fraction(10**9),
    "Ki": Fraction(2**10),
    "Mi": Fraction(2**20),
    "Gi": Fraction(2**30),
}
"""Suffixes of Kubernetes quantities that are plausible for a weight."""
WEIGHT_LIMIT = 10**9
MATCH_LIMIT = 1000
"""Maximum number of matches of one group."""
PATTERN_LIMIT = 2000
"""Maximum number of regular expressions of one group, as `weigh_pattern` counts them: large ones count several times.

Every request may be compared with all of them."""
_WEIGHT = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)(n|u|m|k|M|G|Ki|Mi|Gi|)", re.ASCII).fullmatch


SHOWN_CHARACTERS = 40

Names = Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
"""An empty list is a fault in a field that narrows something, because a missing list means everything."""
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Headers = Annotated[dict[str, str], msgspec.Meta(min_length=1)]


class Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel", gc=False, forbid_unknown_fields=True):
    """Base of the parts of the kinds."""


class SplitBackend(Part, frozen=True):
    """A service that gets a share; the weight is a number, or a quantity such as `500m` (v1alpha1)."""

    service: str
    weight: int | float | str = 0

    def read_weight(self) -> Fraction:
        """Read the weight; raises ConfigurationError."""
        return parse_weight(self.weight)


class Reference(Part, frozen=True):
    """A reference to a route group or route, and to some of its matches; none: all."""

    kind: str = ""
    name: str = ""
    matches: Names = ()


class SplitReference(Reference, frozen=True):
    """A split's reference to a route group: Kubernetes' TypedLocalObjectReference, which also has an `apiGroup`."""

    api_group: str | None = None


class SplitSpec(Part, frozen=True):
    """`spec` of a TrafficSplit. An empty list of matches means none, because a split grants no access."""

    service: str = ""
    backends: tuple[SplitBackend, ...] = ()
    matches: tuple[SplitReference, ...] = ()


class TrafficSplit(CheckedResource, frozen=True):
    """split.smi-spec.io, v1alpha1 to v1alpha4."""

    spec: SplitSpec = SplitSpec()

    @property
    def root(self) -> ObjectKey | None:
        """The service that is split, named with or without its domain; None if the domain is of another namespace."""
        name, _, domain = self.spec.service.partition(".")
        namespace = self.metadata.namespace
        return ObjectKey(namespace, name) if domain.partition(".")[0] in ("", namespace) else None


class RouteMatch(Part, frozen=True):
    """One match of an HTTPRouteGroup. Headers are a map, or a list of maps (v1alpha3 and later).

    A missing condition matches everything; an empty one is a fault.
    """

    name: str = ""
    path_regex: Annotated[str, msgspec.Meta(min_length=1)] = ""
    methods: Names = ()
    headers: Headers | Annotated[tuple[Headers, ...], msgspec.Meta(min_length=1)] = ()

    def build(self) -> HttpMatch:
        """Build the conditions. `*` or no method means any. Raises ConfigurationError for an invalid pattern."""
        maps = (self.headers,) if isinstance(self.headers, dict) else self.headers
        match = HttpMatch(
            paths=(_anchor(self.path_regex),) if self.path_regex else (),
            methods=() if "*" in self.methods else tuple(dict.fromkeys(method.upper() for method in self.methods)),
            headers=tuple(
                HeaderMatch(name=name.lower(), pattern=pattern) for each in maps for name, pattern in each.items()
            ),
        )
        problem = find_match_problem((match,))
        if problem is not None:
            raise ConfigurationError(f"match {self.name or '(without name)'}: {problem}")
        return match


class GroupSpec(Part, frozen=True):
    """`spec` of an HTTPRouteGroup, v1alpha3 and later; without `spec`, its own fields."""

    matches: Annotated[tuple[RouteMatch, ...], msgspec.Meta(min_length=1)] = ()


class HttpRouteGroup(CheckedResource, frozen=True):
    """specs.smi-spec.io HTTPRouteGroup, v1alpha1 to v1alpha4."""

    matches: tuple[RouteMatch, ...] = ()

    def build_matches(self, names: tuple[str, ...] = ()) -> tuple[HttpMatch, ...]:
        """Build the matches of these names, or all; raises ConfigurationError if one is missing or invalid."""
        if self.faults:
            raise ConfigurationError(f"HTTPRouteGroup {self.metadata.name} has an error: {self.faults[0]}")
        known = self.matches
        missing = [name for name in names if all(match.name != name for match in known)]
        if missing:
            raise ConfigurationError(f"HTTPRouteGroup {self.metadata.name} has no match {missing[0]}")
        chosen = [match for match in known if not names or match.name in names]
        if not chosen:
            raise ConfigurationError(f"HTTPRouteGroup {self.metadata.name} has no matches")
        if len(chosen) > MATCH_LIMIT:
            raise ConfigurationError(f"HTTPRouteGroup {self.metadata.name} has more than {MATCH_LIMIT} matches")
        try:
            built = tuple(match.build() for match in chosen)
        except ConfigurationError as error:
            raise ConfigurationError(f"HTTPRouteGroup {self.metadata.name}: {error}") from error
        if sum(weigh_pattern(pattern) for match in built for pattern in _list_patterns(match)) > PATTERN_LIMIT:
            raise ConfigurationError(
                f"HTTPRouteGroup {self.metadata.name} has more than {PATTERN_LIMIT} regular expressions; a large one"
                " counts as several"
            )
        return built


class RoutePorts(Part, frozen=True):
    """`matches` of a TCPRoute or UDPRoute, v1alpha4. Without `ports`, it applies to all ports."""

    name: str = ""
    ports: Annotated[tuple[Port, ...], msgspec.Meta(min_length=1)] = ()


class RouteSpec(Part, frozen=True):
    """`spec` of a TCPRoute or UDPRoute."""

    matches: RoutePorts | Annotated[tuple[RoutePorts, ...], msgspec.Meta(min_length=1)] = ()


class PortRoute(CheckedResource, frozen=True):
    """A route that narrows ports."""

    spec: RouteSpec = RouteSpec()

    def build_ports(self, kind: str, names: tuple[str, ...] = ()) -> tuple[int, ...]:
        """Build the pods' ports of the matches of these names, or of all; an empty result means every port.

        `kind` is for errors. Raises ConfigurationError if a match is missing or the route has a fault.
        """
        if self.faults:
            raise ConfigurationError(f"{kind} {self.metadata.name} has an error: {self.faults[0]}")
        matches = self.spec.matches
        parts = (matches,) if isinstance(matches, RoutePorts) else matches
        missing = [name for name in names if all(part.name != name for part in parts)]
        if missing:
            raise ConfigurationError(f"{kind} {self.metadata.name} has no match {missing[0]}")
        chosen = [part for part in parts if not names or part.name in names]
        if not all(part.ports for part in chosen):
            return ()
        return tuple(dict.fromkeys(port for part in chosen for port in part.ports))


class TcpRoute(PortRoute, frozen=True):
    """specs.smi-spec.io TCPRoute, v1alpha1 to v1alpha4."""


class UdpRoute(PortRoute, frozen=True):
    """specs.smi-spec.io UDPRoute, v1alpha4."""


def parse_weight(value: int | float | str) -> Fraction:
    """Read a weight: a whole number, or a Kubernetes quantity; raises ConfigurationError."""
    text = str(value).strip()
    match = _WEIGHT(text)
    if match is None:
        raise ConfigurationError(f"{text[:SHOWN_CHARACTERS]!r} is not a valid weight")
    weight = Fraction(match[1]) * _SUFFIXES[match[2]]
    if weight > WEIGHT_LIMIT:
        raise ConfigurationError(f"weight {text} is over {WEIGHT_LIMIT}")
    return weight


def _list_patterns(match: HttpMatch) -> Iterable[str]:
    yield from match.paths
    yield from (header.pattern for header in match.headers)


def _anchor(pattern: str) -> str:
    """Add the leading slash of every path to a pattern that begins with a letter or digit."""
    return f"/{pattern}" if pattern[:1].isalnum() else pattern


class _SplitShape(Part, frozen=True):
    spec: SplitSpec = SplitSpec()


class _GroupShape(Part, frozen=True):
    spec: GroupSpec = GroupSpec()


class _RouteShape(Part, frozen=True):
    spec: RouteSpec = RouteSpec()


def read_split(metadata: ObjectMeta, fields: Mapping[str, object]) -> TrafficSplit:
    """Read a TrafficSplit; all of its versions have their fields below `spec`."""
    shape, faults = decode_strictly(fields, _SplitShape)
    if not faults and not shape.spec.service:
        faults = ("spec.service: the name of a service is missing",)
    return TrafficSplit(metadata=metadata, spec=shape.spec, faults=faults)


def read_group(metadata: ObjectMeta, fields: Mapping[str, object]) -> HttpRouteGroup:
    """Read an HTTPRouteGroup, with its matches at the top level or below `spec`."""
    if "spec" not in fields and "matches" in fields:
        top, faults = decode_strictly(fields, GroupSpec, other=_GroupShape)
        return HttpRouteGroup(metadata=metadata, matches=top.matches, faults=faults)
    shape, faults = decode_strictly(fields, _GroupShape, other=GroupSpec)
    return HttpRouteGroup(metadata=metadata, matches=shape.spec.matches, faults=faults)


def read_tcp_route(metadata: ObjectMeta, fields: Mapping[str, object]) -> TcpRoute:
    """Read a TCPRoute: without fields (v1alpha1 to v1alpha3), or with matches below `spec`."""
    spec, faults = _read_route(fields)
    return TcpRoute(metadata=metadata, spec=spec, faults=faults)


def read_udp_route(metadata: ObjectMeta, fields: Mapping[str, object]) -> UdpRoute:
    """Read a UDPRoute, like a TCPRoute."""
    spec, faults = _read_route(fields)
    return UdpRoute(metadata=metadata, spec=spec, faults=faults)


def _read_route(fields: Mapping[str, object]) -> tuple[RouteSpec, tuple[str, ...]]:
    shape, faults = decode_strictly(fields, _RouteShape)
    matches = shape.spec.matches
    if not faults and RoutePorts() in ((matches,) if isinstance(matches, RoutePorts) else matches):
        faults = ("spec.matches: a match is empty; remove it",)
    return shape.spec, faults


ROUTE_GROUP = "HTTPRouteGroup"
SPLITS_BY_ROOT = "root"
"""TrafficSplits by the ObjectKey of the service that they split."""


def _index_by_root(split: TrafficSplit) -> tuple[ObjectKey, ...]:
    return () if split.root is None else (split.root,)


def _index_by_references(split: TrafficSplit) -> list[str]:
    namespace = split.metadata.namespace
    return [build_reference(each.kind or ROUTE_GROUP, ObjectKey(namespace, each.name)) for each in split.spec.matches]


def _list_versions(group: str, count: int, *, first: int = 1) -> tuple[str, ...]:
    return tuple(f"{group}/v1alpha{number}" for number in range(count, first - 1, -1))


KINDS = (
    ResourceKind(
        name="TrafficSplit",
        plural="trafficsplits",
        api_versions=_list_versions("split.smi-spec.io", 4),
        type=TrafficSplit,
        read=read_split,
        indexes={SPLITS_BY_ROOT: _index_by_root, REFERENCES: _index_by_references},
    ),
    ResourceKind(
        name=ROUTE_GROUP,
        plural="httproutegroups",
        api_versions=_list_versions("specs.smi-spec.io", 4),
        type=HttpRouteGroup,
        needs_reference=True,
        read=read_group,
    ),
    ResourceKind(
        name="TCPRoute",
        plural="tcproutes",
        api_versions=_list_versions("specs.smi-spec.io", 4),
        type=TcpRoute,
        needs_reference=True,
        read=read_tcp_route,
    ),
    ResourceKind(
        name="UDPRoute",
        plural="udproutes",
        api_versions=_list_versions("specs.smi-spec.io", 4, first=4),
        type=UdpRoute,
        needs_reference=True,
        read=read_udp_route,
    ),
)
