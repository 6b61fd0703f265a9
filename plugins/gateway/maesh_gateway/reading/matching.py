"""Builds matches of requests, with their ranks, from the matches of a rule.

Raises ConfigurationError for what the CRD refuses or RE2 cannot use. Regular expressions must match as a whole, for
headers too. A rank orders matches of one kind as the Gateway API defines; regular expressions of paths, for which it
defines nothing, are between exact paths and prefixes, the longest first.
"""

import re
from collections.abc import Iterable, Sequence
from typing import TypeVar

import msgspec

from maesh_core.plugin import ConfigurationError, HeaderMatch, HttpMatch, QueryMatch, find_match_problem, weigh_pattern
from maesh_gateway.reading.shapes import (
    GrpcMatchShape,
    HttpMatchShape,
    MethodShape,
    NamedValueShape,
    ParameterShape,
    PathMatchShape,
)
from maesh_gateway.routes import RouteMatch

_REFUSED = ("//", "/./", "/../", "%2f", "%2F", "#")
_is_path = re.compile(r"(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|%[0-9a-fA-F]{2})+").fullmatch
_is_grpc_service = re.compile(r"\.?[a-z_][a-z_0-9]*(\.[a-z_][a-z_0-9]*)*", re.IGNORECASE | re.ASCII).fullmatch
_is_grpc_method = re.compile(r"[A-Za-z_][A-Za-z_0-9]*", re.ASCII).fullmatch
_is_plain = re.compile(r"[A-Za-z0-9_/-]*", re.ASCII).fullmatch

ANY_SEGMENT = "[^/]+"
_EXACT, _PATTERN, _PREFIX = 0, 1, 2
_NamedT = TypeVar("_NamedT", NamedValueShape, ParameterShape)


def build_http_matches(shapes: Sequence[HttpMatchShape]) -> tuple[RouteMatch, ...]:
    """Build the matches of a rule of an HTTPRoute; without any, the one that every request meets."""
    return tuple(_build_http_match(shape, index) for index, shape in enumerate(shapes or (HttpMatchShape(),)))


def build_grpc_matches(shapes: Sequence[GrpcMatchShape]) -> tuple[RouteMatch, ...]:
    """Build the matches of a rule of a GRPCRoute; without any, the one that every call meets."""
    return tuple(_build_grpc_match(shape, index) for index, shape in enumerate(shapes or (GrpcMatchShape(),)))


def _build_http_match(shape: HttpMatchShape, index: int) -> RouteMatch:
    place = f"matches[{index}]"
    headers = _build_headers(shape.headers, place)
    queries = _build_queries(shape.query_params, place)
    path, path_rank = _build_path(shape.path, place)
    method = () if isinstance(shape.method, msgspec.UnsetType) else (shape.method,)
    match = msgspec.structs.replace(path, methods=method, headers=headers, queries=queries)
    return _make(match, (*path_rank, -len(method), -len(headers), -len(queries)))


def _build_path(path: PathMatchShape, place: str) -> tuple[HttpMatch, tuple[int, int]]:
    value = path.value
    if path.type == "RegularExpression":
        match = HttpMatch(path_pattern=value) if value else HttpMatch()
        _check(match, f"{place}.path")
        return match, (_PATTERN, -len(value))
    if problem := _find_path_problem(value):
        raise ConfigurationError(f"{place}.path.value: {value[:80]!r} {problem}")
    if path.type == "Exact":
        return HttpMatch(exact_path=value), (_EXACT, 0)
    prefix = value.rstrip("/")
    return HttpMatch(path_prefix=prefix), (_PREFIX, -len(prefix))


def _find_path_problem(value: str) -> str:
    """Explain why the CRD refuses a path; empty if it does not."""
    if not value.startswith("/"):
        return "does not start with /"
    for text in _REFUSED:
        if text in value:
            return f"contains {text}"
    if value.endswith(("/..", "/.")):
        return "ends with a dot segment"
    return "" if _is_path(value) else "has a character that a path cannot have"


def _build_headers(shapes: Sequence[NamedValueShape], place: str) -> tuple[HeaderMatch, ...]:
    """Build the conditions on headers; of several for one name, the first one counts (HTTPHeaderMatch)."""
    found: dict[str, HeaderMatch] = {}
    for shape in _check_written(shapes, f"{place}.headers"):
        name = shape.name.lower()
        if name in found:
            continue
        if shape.type == "Exact" or _is_plain(shape.value):
            found[name] = HeaderMatch(name=name, value=shape.value)
            continue
        _check(HttpMatch(headers=(HeaderMatch(name=name, pattern=shape.value),)), f"{place}.headers")
        found[name] = HeaderMatch(name=name, pattern=f"^(?:{shape.value})$")
    _check(HttpMatch(headers=tuple(found.values())), f"{place}.headers")
    return tuple(found.values())


def _build_queries(shapes: Sequence[ParameterShape], place: str) -> tuple[QueryMatch, ...]:
    """Build the conditions on query parameters; of several for one name, the first one counts."""
    found: dict[str, QueryMatch] = {}
    for shape in _check_written(shapes, f"{place}.queryParams"):
        if shape.name not in found:
            is_exact = shape.type == "Exact"
            found[shape.name] = QueryMatch(
                name=shape.name, value=shape.value if is_exact else None, pattern="" if is_exact else shape.value
            )
    _check(HttpMatch(queries=tuple(found.values())), f"{place}.queryParams")
    return tuple(found.values())


def _build_grpc_match(shape: GrpcMatchShape, index: int) -> RouteMatch:
    place = f"matches[{index}]"
    headers = _build_headers(shape.headers, place)
    method = shape.method
    if method is None:
        return _make(HttpMatch(headers=headers), (0, 0, -len(headers)))
    if not (method.service or method.method):
        raise ConfigurationError(f"{place}.method: neither a service nor a method is named")
    path = _build_exact_call(method, place) if method.type == "Exact" else _build_call_pattern(method, place)
    match = msgspec.structs.replace(path, headers=headers)
    return _make(match, (-len(method.service), -len(method.method), -len(headers)))


def _build_exact_call(method: MethodShape, place: str) -> HttpMatch:
    """Build the match of `/service/method`, with one or both of them given."""
    if method.service and not _is_grpc_service(method.service):
        raise ConfigurationError(f"{place}.method.service: {method.service[:80]!r} is not the name of a gRPC service")
    if method.method and not _is_grpc_method(method.method):
        raise ConfigurationError(f"{place}.method.method: {method.method[:80]!r} is not the name of a gRPC method")
    if method.service and method.method:
        return HttpMatch(exact_path=f"/{method.service}/{method.method}")
    if method.service:
        return HttpMatch(path_prefix=f"/{method.service}")
    return HttpMatch(path_pattern=f"/{ANY_SEGMENT}/{method.method}")


def _build_call_pattern(method: MethodShape, place: str) -> HttpMatch:
    """Build the match of patterns; each is checked by itself, so that it cannot end the group around it."""
    for pattern in (method.service, method.method):
        _check(HttpMatch(path_pattern=pattern), f"{place}.method")
    service, name = (f"(?:{each})" if each else ANY_SEGMENT for each in (method.service, method.method))
    match = HttpMatch(path_pattern=f"/{service}/{name}")
    _check(match, f"{place}.method")
    return match


def _check_written(shapes: Iterable[_NamedT], place: str) -> Iterable[_NamedT]:
    """Refuse a condition without a name or a value, which have no default."""
    for index, shape in enumerate(shapes):
        for field, text in (("name", shape.name), ("value", shape.value)):
            if not text:
                raise ConfigurationError(f"{place}[{index}].{field} is missing")
        yield shape


def _make(match: HttpMatch, rank: tuple[int, ...]) -> RouteMatch:
    headers, queries = (each.pattern for each in match.headers), (each.pattern for each in match.queries)
    patterns = sum(weigh_pattern(each) for each in (match.path_pattern, *headers, *queries) if each)
    return RouteMatch(match=match, rank=rank, patterns=patterns)


def _check(match: HttpMatch, place: str) -> None:
    problem = find_match_problem((match,))
    if problem is not None:
        raise ConfigurationError(f"{place}: {problem}")
