"""Which requests a rule is about: conditions on path, method and headers, as routers and access rules carry them.

Values only. The patterns are regular expressions in the syntax of RE2 (linear time); how they apply is Maesh's rule: a
path's is anchored at its start and open at its end, a header's is searched for.
"""

import msgspec


class HeaderMatch(msgspec.Struct, frozen=True, kw_only=True):
    """A header that must be there with a value in which `pattern` is found. `name` is in lower case."""

    name: str
    pattern: str = ""


class HttpMatch(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Conditions that must all hold; one without any is for every request.

    Each of `paths` matches the start of the path without query, case-sensitive. `methods` are in upper case; none: any.
    """

    paths: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    headers: tuple[HeaderMatch, ...] = ()


def combine_matches(one: HttpMatch, other: HttpMatch) -> HttpMatch | None:
    """Build the match that holds where both do; None where no request can meet both."""
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
