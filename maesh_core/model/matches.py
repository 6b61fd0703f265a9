"""Matches of requests: conditions on path, method and headers, which routers and access rules contain.

Values only. The patterns are regular expressions in the syntax of RE2 (linear time). As in Maesh, the pattern of a path
must match at its start but not up to its end, and the pattern of a header can match anywhere.
"""

import msgspec


class HeaderMatch(msgspec.Struct, frozen=True, kw_only=True):
    """A header that must be present with a value that contains a match of `pattern`. `name` is in lower case."""

    name: str
    pattern: str = ""


class HttpMatch(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Conditions that must all be met; without conditions, every request matches.

    Each of `paths` matches the start of the path without query, case-sensitive. `methods` are in upper case; an empty
    one means any.
    """

    paths: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    headers: tuple[HeaderMatch, ...] = ()


def combine_matches(one: HttpMatch, other: HttpMatch) -> HttpMatch | None:
    """Build the match that holds if both hold; None if no request can meet both."""
    methods = one.methods or other.methods
    if one.methods and other.methods:
        methods = tuple(method for method in one.methods if method in other.methods)
        if not methods:
            return None
    return HttpMatch(
        paths=tuple(dict.fromkeys((*one.paths, *other.paths))),
        methods=methods,
        headers=tuple(dict.fromkeys((*one.headers, *other.headers))),
    )
