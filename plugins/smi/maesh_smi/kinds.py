"""SMI's kinds, read from any of their versions into one form: the shape of an object decides, not its apiVersion.

Takes what the API server or a manifest has, with fields at the top or below `spec`. Judges values only where they are
asked for: each property that could be wrong raises ConfigurationError, so that a bad object harms itself alone.
"""

from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any

import msgspec

from maesh_core.plugin import (
    ConfigurationError,
    HeaderMatch,
    HttpMatch,
    ObjectKey,
    Resource,
    ResourceKind,
    find_match_problem,
)

_SUFFIXES = {
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
DIGITS_LIMIT = 30


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
    def root(self) -> ObjectKey:
        """The service that is split; it lives beside the split, whatever domain stands behind its name."""
        return ObjectKey(self.metadata.namespace, self.spec.service.partition(".")[0])


class RouteMatch(_Part, frozen=True):
    """One match of an HTTPRouteGroup. Headers are a map, or a list of maps (v1alpha3 and later)."""

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
        known = {match.name: match for match in (*self.matches, *self.spec.matches)}
        missing = [name for name in names if name not in known]
        if missing:
            raise ConfigurationError(f"HTTPRouteGroup {self.metadata.name} has no match {missing[0]}")
        chosen = [known[name] for name in names] if names else [*self.matches, *self.spec.matches]
        if not chosen:
            raise ConfigurationError(f"HTTPRouteGroup {self.metadata.name} has no matches")
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
    number = text.rstrip("numkKMGi")
    scale = _SUFFIXES.get(text[len(number) :]) if len(number) < len(text) else Fraction(1)
    try:
        if scale is None or len(text) > DIGITS_LIMIT:
            raise ValueError
        weight = Fraction(Decimal(number)) * scale
    except (ValueError, InvalidOperation, OverflowError):
        raise ConfigurationError(f"{text[:40]!r} is no weight") from None
    if not 0 <= weight <= WEIGHT_LIMIT:
        raise ConfigurationError(f"weight {text[:40]} is not from 0 to {WEIGHT_LIMIT}")
    return weight


def _anchor(pattern: str) -> str:
    """Have a pattern begin with the slash that every path begins with, where it begins with a letter."""
    return f"/{pattern}" if pattern[:1].isalnum() else pattern


SPLITS_BY_ROOT = "root"
"""TrafficSplits by the ObjectKey of the service that they split."""


def _index_by_root(split: Any) -> tuple[ObjectKey, ...]:
    return (split.root,)


def _list_versions(group: str, count: int, *, first: int = 1) -> tuple[str, ...]:
    return tuple(f"{group}/v1alpha{number}" for number in range(count, first - 1, -1))


KINDS = (
    ResourceKind(
        name="TrafficSplit",
        plural="trafficsplits",
        api_versions=_list_versions("split.smi-spec.io", 4),
        type=TrafficSplit,
        indexes={SPLITS_BY_ROOT: _index_by_root},
    ),
    ResourceKind(
        name="HTTPRouteGroup",
        plural="httproutegroups",
        api_versions=_list_versions("specs.smi-spec.io", 4),
        type=HttpRouteGroup,
    ),
    ResourceKind(
        name="TCPRoute", plural="tcproutes", api_versions=_list_versions("specs.smi-spec.io", 4), type=TcpRoute
    ),
    ResourceKind(
        name="UDPRoute", plural="udproutes", api_versions=_list_versions("specs.smi-spec.io", 4, first=4), type=UdpRoute
    ),
)
