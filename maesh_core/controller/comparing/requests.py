"""Builds example requests that distinguish the rules of a port: for each rule, requests that it matches, and
requests that it does not match.

Takes the matches of both states' routes and access rules; returns requests, simple ones first. Every method, path,
header and query that a match mentions occurs, in all combinations up to a limit.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, product
from typing import NamedTuple
from urllib.parse import quote, urlencode

from maesh_core.controller.comparing.samples import sample_pattern
from maesh_core.model.matches import HeaderMatch, HttpMatch, QueryMatch
from maesh_core.model.matching import CompiledMatch, is_ambiguous

REQUESTS_LIMIT = 3000
"""Limit of requests of one port; a combination that is left out may hide a difference."""
PATHS_LIMIT = 500
FIELDS_LIMIT = 40
OTHER_PATH = "/maesh-example"
"""A path that rules hardly mention."""
USUAL_METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS")
Fields = tuple[tuple[str, str], ...]


class ExampleRequest(NamedTuple):
    """A request as a client sends it, without the client: `path` includes the query."""

    method: str = "GET"
    path: str = "/"
    headers: Fields = ()

    def __str__(self) -> str:
        """Render as people write requests."""
        headers = "".join(f" {name}: {value}" for name, value in self.headers)
        return f"{self.method} {self.path}{headers}"


class Examples(NamedTuple):
    """The examples of one port; `is_complete` is false if a limit has left out combinations."""

    requests: tuple[ExampleRequest, ...]
    is_complete: bool = True


STREAM_EXAMPLES = Examples((ExampleRequest(),))
"""A connection or session has no parts that a rule could match."""


def build_examples(matches: Iterable[HttpMatch], *, changed: Iterable[HttpMatch] = ()) -> Examples:
    """Build the examples of a port from all matches that concern it; those of `changed` ones come first."""
    first = dict.fromkeys(changed)
    distinct = list(dict.fromkeys((*first, *matches)))
    methods = _list_methods(distinct)
    groups = [_list_paths(first), _list_paths(each for each in distinct if each not in first)]
    paths = [path for path in dict.fromkeys(("/", OTHER_PATH, *groups[0], *groups[1])) if _is_path(path)]
    headers = _combine(list(_sample_headers(match.headers)) for match in distinct if match.headers)
    queries = _combine(list(_sample_queries(match.queries)) for match in distinct if match.queries)
    total = len(methods) * len(paths) * len(headers) * len(queries)
    is_complete = len(paths) <= PATHS_LIMIT and total <= REQUESTS_LIMIT and all(map(_has_sample, distinct))
    found = (
        ExampleRequest(method, path + (f"?{urlencode(query)}" if query else ""), fields)
        for query, fields, path, method in product(queries, headers, paths[:PATHS_LIMIT], methods)
    )
    return Examples(tuple(islice(found, REQUESTS_LIMIT)), is_complete)


def _list_paths(matches: Iterable[HttpMatch]) -> list[str]:
    """List the samples of matches, short ones first."""
    return sorted({path for match in matches for path in _sample_paths(match)}, key=_measure)


def _list_methods(matches: Iterable[HttpMatch]) -> list[str]:
    """List the methods that matches name, and a usual one that none names."""
    named = {method for match in matches for method in match.methods}
    other = next((method for method in USUAL_METHODS if method not in named), None)
    ordered = [method for method in USUAL_METHODS if method in named or method == other]
    return [*ordered, *sorted(named - set(USUAL_METHODS))]


def _sample_paths(match: HttpMatch) -> Iterator[str]:
    """Sample the paths around the conditions of a match: what they accept, what is below it and beside it."""
    begins = [each for pattern in match.paths for each in sample_pattern(pattern)]
    if match.path_prefix:
        begins.append(match.path_prefix)
    if match.exact_path:
        begins.append(match.exact_path)
    begins += sample_pattern(match.path_pattern) if match.path_pattern else []
    for begin in dict.fromkeys(begins):
        stem = begin.rstrip("/")
        yield from (begin or "/", f"{stem}/1", f"{begin}1", stem or "/")


def _has_sample(match: HttpMatch) -> bool:
    """Whether the samples of a match contain a path that it matches; otherwise a difference may stay hidden."""
    bare = CompiledMatch(
        HttpMatch(
            paths=match.paths,
            exact_path=match.exact_path,
            path_prefix=match.path_prefix,
            path_pattern=match.path_pattern,
        )
    )
    if bare.target is None:
        return True
    return any(bare.target.holds(path.encode()) for path in _sample_paths(match) if _is_path(path))


def _sample_headers(fields: Sequence[HeaderMatch]) -> Iterator[Fields]:
    """Sample the header fields that all these conditions accept, and each condition alone."""
    samples = [(each.name, _sample_value(each)) for each in fields]
    usable = tuple((name, value) for name, value in samples if value is not None)
    yield usable
    if len(usable) > 1:
        yield from ((each,) for each in usable)


def _sample_queries(parameters: Sequence[QueryMatch]) -> Iterator[Fields]:
    samples = [(each.name, _sample_value(each)) for each in parameters]
    yield tuple((name, value) for name, value in samples if value is not None)


def _sample_value(field: HeaderMatch | QueryMatch) -> str | None:
    if field.value is not None:
        return field.value
    found = [text for text in sample_pattern(field.pattern) if text.isascii() and text.isprintable()]
    return next((text for text in found if text), found[0] if found else None)


def _combine(samples: Iterable[Iterable[Fields]]) -> list[Fields]:
    """Return no fields first, then each sample, then unions of two, so that two rules can apply at once."""
    found = list(dict.fromkeys(each for group in samples for each in group if each))[:FIELDS_LIMIT]
    unions = [tuple(dict([*one, *other]).items()) for place, one in enumerate(found) for other in found[place + 1 :]]
    return list(dict.fromkeys([(), *found, *unions]))[:FIELDS_LIMIT]


def _is_path(path: str) -> bool:
    """Whether a client can send a path, and all servers read it in the same way."""
    is_plain = path.startswith("/") and path.isascii() and quote(path, safe="/%!$&'()*+,;=:@~-._") == path
    return is_plain and not is_ambiguous(path.encode())


def _measure(path: str) -> tuple[int, str]:
    return len(path), path
