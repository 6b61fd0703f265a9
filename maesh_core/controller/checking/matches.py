"""Compares matches of requests: whether one holds for every request of another, and whether one holds for none.

Pure. Both answers are safe: what they claim is true for every request. What cannot be decided is not claimed.
"""

from collections.abc import Iterable, Sequence

from maesh_core.controller.checking.pattern_trees import Shape, can_match, find_shape
from maesh_core.model.matches import HeaderMatch, HttpMatch, QueryMatch
from maesh_core.model.patterns import compile_pattern, is_literal
from maesh_core.values.spelling import suggest

METHODS = frozenset(
    (
        *("ACL", "BASELINE-CONTROL", "BIND", "CHECKIN", "CHECKOUT", "COPY", "DELETE", "GET", "HEAD", "LABEL", "LINK"),
        *("LOCK", "M-SEARCH", "MERGE", "MKACTIVITY", "MKCALENDAR", "MKCOL", "MKREDIRECTREF", "MKWORKSPACE", "MOVE"),
        *("NOTIFY", "OPTIONS", "ORDERPATCH", "PATCH", "POST", "PROPFIND", "PROPPATCH", "PURGE", "PUT", "QUERY"),
        *("REBIND", "REPORT", "SEARCH", "SOURCE", "SUBSCRIBE", "TRACE", "UNBIND", "UNCHECKOUT", "UNLINK", "UNLOCK"),
        *("UNSUBSCRIBE", "UPDATE", "UPDATEREDIRECTREF", "VERSION-CONTROL"),
    )
)
"""The methods that proxies accept by default: IANA's registry, and some that are widely used."""


def covers(one: HttpMatch, other: HttpMatch) -> bool:
    """Whether every request that meets `other` also meets `one`."""
    if one.methods and not (other.methods and set(other.methods) <= set(one.methods)):
        return False
    if not all(_is_header_implied(each, other.headers) for each in one.headers):
        return False
    if not all(_is_query_implied(each, other.queries) for each in one.queries):
        return False
    known = list_shapes(other)
    return all(_is_shape_implied(each, known) for each in list_shapes(one))


def list_shapes(match: HttpMatch) -> list[Shape]:
    """List the conditions of a match on the path."""
    shapes = [find_shape(each, "start") for each in match.paths]
    if match.exact_path:
        shapes.append(Shape("exact", match.exact_path))
    if match.path_prefix:
        shapes.append(Shape("elements", match.path_prefix))
    if match.path_pattern:
        shapes.append(find_shape(match.path_pattern, "whole"))
    return shapes


def _is_shape_implied(shape: Shape, known: Iterable[Shape]) -> bool:
    if shape.kind == "text" and shape.text in ("", "/"):
        return True
    return any(_implies(each, shape) for each in known)


def _implies(one: Shape, other: Shape) -> bool:
    """Whether every path of `one` is one of `other`."""
    if one == other:
        return True
    if other.kind == "text":
        return one.text.startswith(other.text)
    if other.kind == "exact":
        return False
    if other.kind == "elements":
        is_same = one.text == other.text and one.kind in ("exact", "elements")
        return is_same or one.text.startswith(f"{other.text}/")
    return one.kind == "exact" and _matches(other.pattern, one.text, is_whole=other.mode == "whole")


def _is_header_implied(wanted: HeaderMatch, known: Sequence[HeaderMatch]) -> bool:
    return any(each.name == wanted.name and _is_value_implied(wanted, each, is_whole=False) for each in known)


def _is_query_implied(wanted: QueryMatch, known: Sequence[QueryMatch]) -> bool:
    return any(each.name == wanted.name and _is_value_implied(wanted, each, is_whole=True) for each in known)


def _is_value_implied(wanted: HeaderMatch | QueryMatch, known: HeaderMatch | QueryMatch, *, is_whole: bool) -> bool:
    if wanted.value is not None:
        return known.value == wanted.value
    if known.value is None:
        return wanted.pattern == known.pattern or wanted.pattern in (("", ".*") if not is_whole else ())
    return _matches(wanted.pattern, known.value, is_whole=is_whole, is_anywhere=not is_whole)


def _matches(pattern: str, text: str, *, is_whole: bool, is_anywhere: bool = False) -> bool:
    if is_literal(pattern):
        return text == pattern if is_whole else pattern in text if is_anywhere else text.startswith(pattern)
    try:
        compiled = compile_pattern(pattern)
    except ValueError:
        return False
    match = compiled.fullmatch if is_whole else compiled.search if is_anywhere else compiled.match
    return match(text.encode()) is not None


def find_impossible(match: HttpMatch) -> str:
    """Explain why no request meets a match; empty if one may."""
    for pattern in match.paths:
        if not can_match(pattern, "start", is_path=True):
            return f"no path matches {pattern!r}{_explain_path(pattern)}"
    if match.path_pattern and not can_match(match.path_pattern, "whole", is_path=True):
        return f"no path matches {match.path_pattern!r}{_explain_path(match.path_pattern)}"
    for header in match.headers:
        if header.value is None and not can_match(header.pattern, "any", is_path=False):
            return f"no value of the header {header.name} matches {header.pattern!r}"
    if match.methods and not METHODS & set(match.methods):
        method = match.methods[0]
        return f"proxies refuse the method {method!r}, which is not registered{suggest(method, METHODS, cutoff=0.6)}"
    shapes = list_shapes(match)
    exact = next((each for each in shapes if each.kind == "exact"), None)
    contrary = exact and next((each for each in shapes if _excludes(each, exact)), None)
    return "no path meets all of its conditions on the path" if contrary else ""


def _excludes(shape: Shape, exact: Shape) -> bool:
    """Whether a condition excludes the only path of another one."""
    return not (_is_shape_implied(shape, (exact,)))


def _explain_path(pattern: str) -> str:
    if "?" in pattern and r"\?" in pattern:
        return ": a path does not contain the query"
    if pattern.lstrip("^(")[:1] not in ("/", "", ".", "[", "\\"):
        return ": a path begins with /"
    return ""
