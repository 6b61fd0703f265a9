"""SMI's kinds, read from any of their versions into one form: the shape of an object decides, not its apiVersion.

Takes what the API server or a manifest has, with fields at the top or below `spec`. Judges values only where they are
asked for: each property that could be wrong raises ConfigurationError, so that a bad object harms itself alone.
"""

import re
from fractions import Fraction
from typing import Any

import msgspec

from maesh_core.plugin import (
    REFERENCES,
    ConfigurationError,
    HeaderMatch,
    HttpMatch,
    ObjectKey,
    Resource,
    ResourceKind,
    build_reference,
    find_match_problem,
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
"""Of Kubernetes quantities, as far as a weight can be thought to have them."""
WEIGHT_LIMIT = 10**9
MATCH_LIMIT = 1000
"""Matches of one group."""
_WEIGHT = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)(n|u|m|k|M|G|Ki|Mi|Gi|)", re.ASCII).fullmatch


class _Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel", gc=False):
    """Base of what stands within the kinds."""


class SplitBackend(_Part, frozen=True):
    """A service that gets a share; the weight is a number, or a quantity such as `500m` (v1alpha1)."""

    service: str
    weight: int | float | str = 0

    def read_weight(self) -> Fraction:
        """Read the weight; raises ConfigurationError."""
        return parse_weight(self.weight)


class Reference(_Part, frozen=True):
    """A route group or route that is named."""

    kind: str = ""
    name: str = ""
    matches: tuple[str, ...] = ()


class SplitSpec(_Part, frozen=True):
    """`spec` of a TrafficSplit."""

    service: str = ""
    backends: tuple[SplitBackend, ...] = ()
    matches: tuple[Reference, ...] = ()


class TrafficSplit(Resource, frozen=True):
    """split.smi-spec.io, v1alpha1 to v1alpha4."""

    spec: SplitSpec = SplitSpec()

    @property
    def root(self) -> ObjectKey | None:
        """The service that is split, named with or without its domain; None where that is of another namespace."""
        name, _, domain = self.spec.service.partition(".")
        namespace = self.metadata.namespace
        return ObjectKey(namespace, name) if domain.partition(".")[0] in ("", namespace) else None


class RouteMatch(_Part, frozen=True, forbid_unknown_fields=True):
    """One match of an HTTPRouteGroup. Headers are a map, or a list of maps (v1alpha3 and later).

    Unknown fields are refused: a misspelt condition would be none, and open everything.
    """

    name: str = ""
    path_regex: str = ""
    methods: tuple[str, ...] = ()
    headers: dict[str, str] | tuple[dict[str, str], ...] = ()

    def build(self) -> HttpMatch:
        """Build the conditions; `*` among the methods, or none, is any. Raises ConfigurationError on a bad pattern."""
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


class GroupSpec(_Part, frozen=True):
    """`spec` of an HTTPRouteGroup, v1alpha3 and later."""

    matches: tuple[RouteMatch, ...] = ()


class HttpRouteGroup(Resource, frozen=True):
    """specs.smi-spec.io HTTPRouteGroup, v1alpha1 to v1alpha4."""

    matches: tuple[RouteMatch, ...] = ()
    spec: GroupSpec = GroupSpec()

    def build_matches(self, names: tuple[str, ...] = ()) -> tuple[HttpMatch, ...]:
        """Build the matches of these names, or all; raises ConfigurationError where one is missing or bad."""
        known = (*self.matches, *self.spec.matches)
        missing = [name for name in names if all(match.name != name for match in known)]
        if missing:
            raise ConfigurationError(f"HTTPRouteGroup {self.metadata.name} has no match {missing[0]}")
        chosen = [match for match in known if not names or match.name in names]
        if not chosen:
            raise ConfigurationError(f"HTTPRouteGroup {self.metadata.name} has no matches")
        if len(chosen) > MATCH_LIMIT:
            raise ConfigurationError(f"HTTPRouteGroup {self.metadata.name} has more than {MATCH_LIMIT} matches")
        try:
            return tuple(match.build() for match in chosen)
        except ConfigurationError as error:
            raise ConfigurationError(f"HTTPRouteGroup {self.metadata.name}: {error}") from error


class RoutePorts(_Part, frozen=True):
    """`matches` of a TCPRoute or UDPRoute, v1alpha4."""

    name: str = ""
    ports: tuple[int, ...] = ()


class RouteSpec(_Part, frozen=True):
    """`spec` of a TCPRoute or UDPRoute."""

    matches: RoutePorts | tuple[RoutePorts, ...] = ()


class _PortRoute(Resource, frozen=True):
    """A route that narrows ports."""

    spec: RouteSpec = RouteSpec()

    @property
    def ports(self) -> tuple[int, ...]:
        """The pods' ports that it is about; none: all."""
        matches = self.spec.matches
        parts = (matches,) if isinstance(matches, RoutePorts) else matches
        return tuple(dict.fromkeys(port for part in parts for port in part.ports))


class TcpRoute(_PortRoute, frozen=True):
    """specs.smi-spec.io TCPRoute, v1alpha1 to v1alpha4."""


class UdpRoute(_PortRoute, frozen=True):
    """specs.smi-spec.io UDPRoute, v1alpha4."""


def parse_weight(value: int | float | str) -> Fraction:
    """Read a weight: a whole number, or a Kubernetes quantity; raises ConfigurationError."""
    text = str(value).strip()
    match = _WEIGHT(text)
    if match is None:
        raise ConfigurationError(f"{text[:40]!r} is no weight")
    weight = Fraction(match[1]) * _SUFFIXES[match[2]]
    if weight > WEIGHT_LIMIT:
        raise ConfigurationError(f"weight {text} is over {WEIGHT_LIMIT}")
    return weight


def _anchor(pattern: str) -> str:
    """Have a pattern begin with the slash that every path begins with, where it begins with a letter."""
    return f"/{pattern}" if pattern[:1].isalnum() else pattern


ROUTE_GROUP = "HTTPRouteGroup"
SPLITS_BY_ROOT = "root"
"""TrafficSplits by the ObjectKey of the service that they split."""


def _index_by_root(split: Any) -> tuple[ObjectKey, ...]:
    return () if split.root is None else (split.root,)


def _index_by_references(split: Any) -> list[str]:
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
        indexes={SPLITS_BY_ROOT: _index_by_root, REFERENCES: _index_by_references},
    ),
    ResourceKind(
        name=ROUTE_GROUP,
        plural="httproutegroups",
        api_versions=_list_versions("specs.smi-spec.io", 4),
        type=HttpRouteGroup,
        needs_reference=True,
    ),
    ResourceKind(
        name="TCPRoute",
        plural="tcproutes",
        api_versions=_list_versions("specs.smi-spec.io", 4),
        type=TcpRoute,
        needs_reference=True,
    ),
    ResourceKind(
        name="UDPRoute",
        plural="udproutes",
        api_versions=_list_versions("specs.smi-spec.io", 4, first=4),
        type=UdpRoute,
        needs_reference=True,
    ),
)
