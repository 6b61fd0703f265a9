"""Matches of requests: conditions on path, query, method and headers, which routers and access rules contain.

Values only. The patterns are regular expressions in the syntax of RE2 (linear time). As in Maesh, a pattern of `paths`
must match at its start but not up to its end, and the pattern of a header can match anywhere. `path_pattern` and the
pattern of a query parameter must match as a whole, as in the Gateway API.
"""

import msgspec


class HeaderMatch(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A header that must be present with a value that contains a match of `pattern`. `name` is in lower case.

    If `value` is not None, a value of the header must equal it, and `pattern` is not used.
    """

    name: str
    pattern: str = ""
    value: str | None = None


class QueryMatch(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A query parameter whose first value must match `pattern` as a whole, or equal `value` if that is not None.

    `name` and `value` are compared with the decoded query, case-sensitive.
    """

    name: str
    pattern: str = ""
    value: str | None = None


class HttpMatch(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Conditions that must all be met; without conditions, every request matches.

    Each of `paths` matches the start of the path without query, case-sensitive. `methods` are in upper case; an empty
    one means any. `exact_path` equals the path; `path_prefix`, without a final slash, matches the path by whole
    elements; `path_pattern` matches the whole path.
    """

    paths: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    headers: tuple[HeaderMatch, ...] = ()
    exact_path: str = ""
    path_prefix: str = ""
    path_pattern: str = ""
    queries: tuple[QueryMatch, ...] = ()


def combine_matches(one: HttpMatch, other: HttpMatch) -> HttpMatch | None:
    """Build the match that holds if both hold; None if no request can meet both.

    Raises ValueError if both have another `exact_path`, `path_prefix` or `path_pattern`: one match has each only once.
    """
    methods = one.methods or other.methods
    if one.methods and other.methods:
        methods = tuple(method for method in one.methods if method in other.methods)
        if not methods:
            return None
    return HttpMatch(
        paths=tuple(dict.fromkeys((*one.paths, *other.paths))),
        methods=methods,
        headers=tuple(dict.fromkeys((*one.headers, *other.headers))),
        exact_path=_combine_texts(one.exact_path, other.exact_path),
        path_prefix=_combine_texts(one.path_prefix, other.path_prefix),
        path_pattern=_combine_texts(one.path_pattern, other.path_pattern),
        queries=tuple(dict.fromkeys((*one.queries, *other.queries))),
    )


def _combine_texts(one: str, other: str) -> str:
    if one and other and one != other:
        raise ValueError(f"{one!r} and {other!r} cannot be combined")
    return one or other
