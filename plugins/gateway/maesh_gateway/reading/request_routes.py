"""Reads routes and grants, part by part, so that an error spoils only its part.

Takes the fields of an object without its metadata; returns the route. Raises nothing. A rule whose matches are wrong is
dropped; a rule with any other error is closed, because its requests must not pass without a filter. Errors in the shape
of the object itself are faults, as are more rules, matches or parents than the CRD allows.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from maesh_core.plugin import ConfigurationError, ObjectKey, ObjectMeta, decode_strictly, is_label, is_subdomain
from maesh_gateway.reading.filters import REDIRECT, FilterError, check_prefixes, read_backend, read_filters
from maesh_gateway.reading.matching import build_grpc_matches, build_http_matches
from maesh_gateway.reading.shapes import (
    GROUP,
    GrantShape,
    GrpcMatchesShape,
    GrpcRuleShape,
    HttpMatchesShape,
    HttpMatchShape,
    HttpRuleShape,
    ParentShape,
    RouteShape,
    RuleShape,
)
from maesh_gateway.routes import (
    CORE_GROUPS,
    BackendRef,
    GrantFrom,
    GrantTo,
    GrpcRoute,
    HttpRoute,
    ParentRef,
    Reason,
    ReferenceGrant,
    Route,
    RouteFilter,
    RouteMatch,
    RouteRule,
    RuleProblem,
)

PARENT_LIMIT = 32
MATCH_LIMIT = 128
"""Maximum number of matches of one route."""

RouteT = TypeVar("RouteT", bound=Route)
_FILTER_FIELDS = ("timeouts", "retry", "sessionPersistence")
"""The fields of a rule that act as filters, in the order in which they do."""


def read_http_route(metadata: ObjectMeta, fields: Mapping[str, object]) -> HttpRoute:
    """Read an HTTPRoute."""
    return _read_route(metadata, fields, HttpRoute)


def read_grpc_route(metadata: ObjectMeta, fields: Mapping[str, object]) -> GrpcRoute:
    """Read a GRPCRoute."""
    return _read_route(metadata, fields, GrpcRoute)


def read_grant(metadata: ObjectMeta, fields: Mapping[str, object]) -> ReferenceGrant:
    """Read a ReferenceGrant."""
    shape, faults = decode_strictly(fields, GrantShape)
    spec = shape.spec
    if not faults and not (spec.from_ and spec.to):
        faults = ("spec: from and to are required",)
    kinds = [*((each.group, each.kind) for each in spec.from_), *((each.group, each.kind) for each in spec.to)]
    if not faults and any(isinstance(group, msgspec.UnsetType) or not kind for group, kind in kinds):
        faults = ("spec: group and kind are required in from and to",)
    if not faults and not all(each.namespace for each in spec.from_):
        faults = ("spec.from: namespace is required",)
    return ReferenceGrant(
        metadata=metadata,
        from_=tuple(GrantFrom(group=str(each.group), kind=each.kind, namespace=each.namespace) for each in spec.from_),
        to=tuple(GrantTo(group=str(each.group), kind=each.kind, name=each.name) for each in spec.to),
        faults=faults,
    )


def _read_route(metadata: ObjectMeta, fields: Mapping[str, object], type_: type[RouteT]) -> RouteT:
    shape, found = decode_strictly(fields, RouteShape)
    faults = list(found)
    if not (is_subdomain(metadata.name) and is_label(metadata.namespace)):
        faults.append("metadata: its name or namespace is not one that an object can have")
    written: tuple[Any, ...] = type_.default_rules
    if not isinstance(shape.spec.rules, msgspec.UnsetType):
        written = shape.spec.rules
    rules: tuple[RouteRule, ...] = ()
    if not faults:
        namespace = metadata.namespace
        rules = tuple(
            msgspec.structs.replace(
                _RuleReader(rule, index, namespace=namespace, is_grpc=type_.is_grpc).read(), size=_measure(rule)
            )
            for index, rule in enumerate(written)
        )
        rules = _check_labels(rules)
        count = sum(len(rule.matches) for rule in rules)
        if count > MATCH_LIMIT:
            faults.append(f"spec.rules: it has {count} matches; {MATCH_LIMIT} are allowed")
            rules = ()
    return type_(
        metadata=metadata,
        parents=read_parents(fields, metadata.namespace),
        rules=rules,
        has_hostnames=bool(shape.spec.hostnames),
        ungrouped=find_ungrouped(fields),
        faults=tuple(faults),
    )


def _measure(written: object) -> int:
    """Measure a rule in bytes, whatever it contains."""
    try:
        return len(msgspec.json.encode(written))
    except (TypeError, ValueError):  # such as a half of a character: it is refused, or a part of it is
        return len(repr(written))


def _check_labels(rules: Sequence[RouteRule]) -> tuple[RouteRule, ...]:
    """Close each rule with the name of an earlier one."""
    seen: set[str] = set()
    checked = []
    for rule in rules:
        if rule.label and rule.label in seen and rule.problem is None:
            text = f"rules[{rule.index}].name: {rule.label!r} is already the name of another rule"
            problem = RuleProblem(rule=rule.index, reason="UnsupportedValue", text=text)
            rule = RouteRule(index=rule.index, matches=rule.matches, problem=problem, size=rule.size)
        seen.add(rule.label)
        checked.append(rule)
    return tuple(checked)


# --- parents ---------------------------------------------------------------------------------------------------------


def read_parents(fields: Mapping[str, object], namespace: str) -> tuple[ParentRef, ...]:
    """Read the parents of kind Service, whatever else is wrong with the object; others are not ours to judge."""
    found = (_read_parent(each, index, namespace) for index, each in enumerate(_list_parents(fields)))
    return _refuse_repeated([parent for parent in found if parent is not None])


def find_ungrouped(fields: Mapping[str, object]) -> tuple[int, ...]:
    """Find the parents of kind Service in the default group, where there is no such kind: the group was forgotten."""
    return tuple(
        index
        for index, each in enumerate(_list_parents(fields))
        if isinstance(each, Mapping) and each.get("kind") == "Service" and each.get("group", GROUP) == GROUP
    )


def _list_parents(fields: Mapping[str, object]) -> Sequence[object]:
    spec = fields.get("spec")
    written = spec.get("parentRefs") if isinstance(spec, Mapping) else None
    return written[:PARENT_LIMIT] if isinstance(written, list | tuple) else ()


def _read_parent(written: object, index: int, namespace: str) -> ParentRef | None:
    if not isinstance(written, Mapping) or not all(isinstance(name, str) for name in written):
        return None
    group = written.get("group", GROUP)
    if written.get("kind") != "Service" or not isinstance(group, str) or group not in CORE_GROUPS:
        return None
    shape, faults = decode_strictly(written, ParentShape)
    if not faults and not shape.name:
        faults = ("name is missing",)
    return ParentRef(
        index=index,
        service=ObjectKey(shape.namespace or namespace, shape.name),
        section=shape.section_name,
        port=shape.port,
        written=written,
        problem=f"parentRefs[{index}]: {faults[0]}" if faults else "",
    )


def _refuse_repeated(parents: Sequence[ParentRef]) -> tuple[ParentRef, ...]:
    """Refuse a parent that an earlier one names, too: they must differ by section or port, which all of them have.

    The CRD refuses such an object as a whole (HTTPRoute `spec.parentRefs`, experimental channel).
    """
    first: dict[ObjectKey, ParentRef] = {}
    seen: set[tuple[ObjectKey, str, int | None]] = set()
    checked = []
    for parent in parents:
        if not parent.problem:
            known = first.setdefault(parent.service, parent)
            place = (parent.service, parent.section, parent.port)
            is_mixed = (not known.section, known.port is None) != (not parent.section, parent.port is None)
            if place in seen or is_mixed:
                text = f"parentRefs[{known.index}] names the same Service; they must differ by sectionName or port"
                parent = msgspec.structs.replace(parent, problem=f"parentRefs[{parent.index}]: {text}")
            seen.add(place)
        checked.append(parent)
    return tuple(checked)


# --- rules -----------------------------------------------------------------------------------------------------------


class _RuleReader:
    """Reads one rule."""

    def __init__(self, written: Any, index: int, *, namespace: str, is_grpc: bool) -> None:
        self._written = written
        self._index = index
        self._namespace = namespace
        self._is_grpc = is_grpc
        self._place = f"rules[{index}]"

    def read(self) -> RouteRule:
        """Read the rule; what is wrong with it is its problem."""
        written = self._written
        if not isinstance(written, Mapping) or not all(isinstance(name, str) for name in written):
            return self._drop(f"{self._place}: it is not an object with fields")
        try:
            matches, shapes = self._read_matches({name: each for name, each in written.items() if name == "matches"})
        except ConfigurationError as error:
            return self._drop(f"{self._place}.{error}")
        rest = {name: each for name, each in written.items() if name != "matches"}
        try:
            return self._read_rest(rest, matches, shapes)
        except FilterError as error:
            return self._close(matches, str(error), error.reason)

    def _read_matches(self, fields: Mapping[str, Any]) -> tuple[tuple[RouteMatch, ...], Sequence[HttpMatchShape]]:
        """Read the matches; also return those of an HTTPRoute as decoded. Raises ConfigurationError."""
        if self._is_grpc:
            calls, faults = decode_strictly(fields, GrpcMatchesShape)
            _refuse(faults)
            return build_grpc_matches(calls.matches), ()
        requests, faults = decode_strictly(fields, HttpMatchesShape)
        _refuse(faults)
        return build_http_matches(requests.matches), requests.matches or (HttpMatchShape(),)

    def _read_rest(
        self, fields: Mapping[str, Any], matches: tuple[RouteMatch, ...], shapes: Sequence[HttpMatchShape]
    ) -> RouteRule:
        """Read filters and backends. Raises FilterError."""
        type_: type[RuleShape] = GrpcRuleShape if self._is_grpc else HttpRuleShape
        shape, faults = decode_strictly(fields, type_)
        if faults:
            raise FilterError(f"{self._place}.{faults[0]}")
        if shape.name and not is_subdomain(shape.name):
            raise FilterError(f"{self._place}.name: {shape.name[:80]!r} is not a valid name")
        filters = self._read_filters(shape, fields)
        backends = self._read_backends(shape, fields)
        if backends and any(each.name == REDIRECT for each in filters):
            raise FilterError(f"{self._place}: a rule with {REDIRECT} cannot have backendRefs")
        for index, each in enumerate((filters, *(backend.filters for backend in backends))):
            place = f"{self._place}.backendRefs[{index - 1}].filters" if index else f"{self._place}.filters"
            check_prefixes(each, shapes, place)
        return RouteRule(index=self._index, label=shape.name, matches=matches, filters=filters, backends=backends)

    def _read_filters(self, shape: RuleShape, fields: Mapping[str, Any]) -> tuple[RouteFilter, ...]:
        listed = read_filters(
            shape.filters,
            fields.get("filters", ()),
            place=f"{self._place}.filters",
            namespace=self._namespace,
            is_grpc=self._is_grpc,
        )
        own = (RouteFilter(name=name, value=fields[name]) for name in _FILTER_FIELDS if fields.get(name) is not None)
        return (*listed, *own)

    def _read_backends(self, shape: RuleShape, fields: Mapping[str, Any]) -> tuple[BackendRef, ...]:
        written: Sequence[Mapping[str, Any]] = fields.get("backendRefs", ())
        found = []
        for index, (each, item) in enumerate(zip(shape.backend_refs, written, strict=True)):
            place = f"{self._place}.backendRefs[{index}]"
            filters = read_filters(
                each.filters,
                item.get("filters", ()),
                place=f"{place}.filters",
                namespace=self._namespace,
                is_grpc=self._is_grpc,
            )
            found.append(
                read_backend(each, namespace=self._namespace, place=place, weight=each.weight, filters=filters)
            )
        return tuple(found)

    def _drop(self, text: str) -> RouteRule:
        problem = RuleProblem(rule=self._index, reason="UnsupportedValue", text=text, is_dropped=True)
        return RouteRule(index=self._index, problem=problem)

    def _close(self, matches: tuple[RouteMatch, ...], text: str, reason: Reason) -> RouteRule:
        problem = RuleProblem(rule=self._index, reason=reason, text=text)
        return RouteRule(index=self._index, matches=matches, problem=problem)


def _refuse(faults: Sequence[str]) -> None:
    if faults:
        raise ConfigurationError(faults[0])
