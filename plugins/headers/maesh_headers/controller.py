"""The controller's half: builds header changes from annotations or from filters of routes, or an error.

An annotation has one change on each line: `set NAME=VALUE`, `add NAME=VALUE` or `remove NAME`. Values may contain
semicolons and commas, as those of many headers do, so only the end of a line ends a change.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from maesh_core.plugin import (
    ConfigurationError,
    FilterRequest,
    MiddlewareBuilder,
    Question,
    ServiceNode,
    Stage,
    Verdict,
    build_annotation_error,
    find_header_problem,
    hookimpl,
    read_filter,
)
from maesh_headers.settings import HeaderChange, HeaderChanges

REQUEST, RESPONSE = "request-headers", "response-headers"
REQUEST_FILTER, RESPONSE_FILTER = "RequestHeaderModifier", "ResponseHeaderModifier"
CHANGE_LIMIT = 64
"""Limit of the changes of one message: a filter has at most 48."""
NAME_LIMIT, VALUE_LIMIT = 256, 4096
"""Limits of a name and of a value, in characters (Gateway API)."""
_CHANGE = re.compile(r"(set|add)\s+([^\s=]+)\s*=\s*(.*)|(remove)\s+(\S+)", re.ASCII)
_VALUE = re.compile(r"[!-~](?:[\t -~]*[!-~])?")
"""Printable ASCII without spaces at its ends (Gateway API)."""
_RULE = "is not set NAME=VALUE, add NAME=VALUE or remove NAME, one on each line"
_Action = Literal["set", "add", "remove"]


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A header of a filter, as in the Gateway API."""

    name: str = ""
    value: str = ""


class HeaderFilter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A filter, as in the Gateway API."""

    set: tuple[Header, ...] = ()
    add: tuple[Header, ...] = ()
    remove: tuple[str, ...] = ()


class HeadersBuilder:
    """Builds the changes of a service from its annotations, and those of a rule from its filters."""

    kind = "headers"
    stage = Stage.SHAPE
    annotations: tuple[str, ...] = (REQUEST, RESPONSE)
    filters: tuple[str, ...] = (REQUEST_FILTER, RESPONSE_FILTER)
    is_single = False

    def build_settings(self, annotations: Mapping[str, str], service: ServiceNode) -> HeaderChanges | None:
        """Read the annotations; None for a service that has none of them."""
        if not annotations:
            return None
        return HeaderChanges(request=_read(annotations, REQUEST), response=_read(annotations, RESPONSE))

    def build_filter(self, requests: Sequence[FilterRequest], service: ServiceNode) -> HeaderChanges:
        """Combine filters of one rule; one without changes is refused."""
        request: list[HeaderChange] = []
        response: list[HeaderChange] = []
        for each in requests:
            (request if each.name == REQUEST_FILTER else response).extend(_read_filter(each))
        return HeaderChanges(request=tuple(request), response=tuple(response))

    def describe(self, settings: Mapping[str, object]) -> Sequence[str]:
        """List the changes, in their order."""
        changes = msgspec.convert(settings, HeaderChanges)
        return [
            f"{message}: {each.action} {each.name}" + (f"={each.value}" if each.value else "")
            for message, found in (("request", changes.request), ("response", changes.response))
            for each in found
        ]

    def explain(self, settings: Mapping[str, object], question: Question) -> Verdict:
        """List the changes; no request is refused."""
        return Verdict(is_admitted=True, reasons=tuple(self.describe(settings)))


def _read(annotations: Mapping[str, str], annotation: str) -> tuple[HeaderChange, ...]:
    text = annotations.get(annotation)
    if text is None:
        return ()
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise build_annotation_error(annotation, text, "has no change")
    if len(lines) > CHANGE_LIMIT:
        raise build_annotation_error(annotation, text, f"has more than {CHANGE_LIMIT} changes")
    changes = [_read_line(annotation, line) for line in lines]
    problem = next((found for change in changes if (found := find_problem(change))), None) or _find_conflict(changes)
    if problem:
        raise build_annotation_error(annotation, text, f"has an error: {problem}")
    return tuple(changes)


def _read_line(annotation: str, line: str) -> HeaderChange:
    match = _CHANGE.fullmatch(line)
    if match is None:
        raise build_annotation_error(annotation, line, _RULE)
    if match[4]:
        return HeaderChange(action="remove", name=match[5])
    return HeaderChange(action="set" if match[1] == "set" else "add", name=match[2], value=match[3])


def _read_filter(request: FilterRequest) -> list[HeaderChange]:
    """Read one filter. Of several headers of one list whose names differ only in case, the first counts."""
    found = read_filter(request, HeaderFilter)
    changes = [
        *_read_headers("set", found.set),
        *_read_headers("add", found.add),
        *_read_headers("remove", (Header(name) for name in found.remove)),
    ]
    if not changes:
        raise ConfigurationError(f"{request.name}: it has no change")
    problem = next((text for change in changes if (text := find_problem(change))), None) or _find_conflict(changes)
    if problem is None and request.client_namespace and request.name == REQUEST_FILTER:
        problem = _find_claim(changes)
    if problem:
        raise ConfigurationError(f"{request.name}: {problem}")
    return changes


def _find_claim(changes: Iterable[HeaderChange]) -> str | None:
    """Explain which header a client must not claim, and so no route of its own namespace: proxies remove these."""
    name = next((each.name for each in changes if each.name.lower().startswith(("x-forwarded-", "forwarded"))), None)
    return None if name is None else f"{name!r} can only be changed by a route of the Service's namespace"


def _read_headers(action: _Action, headers: Iterable[Header]) -> list[HeaderChange]:
    first: dict[str, Header] = {}
    for header in headers:
        first.setdefault(header.name.lower(), header)
    return [HeaderChange(action=action, name=each.name, value=each.value) for each in first.values()]


def find_problem(change: HeaderChange) -> str | None:
    """Explain why a change cannot be made; None if it can."""
    name, value = change.name, change.value
    if len(name) > NAME_LIMIT or len(value) > VALUE_LIMIT:
        return f"a name has more than {NAME_LIMIT} characters, or a value more than {VALUE_LIMIT}"
    problem = find_header_problem(name)
    if problem is not None:
        return f"{name!r} {problem}"
    if change.action == "remove":
        return None
    if not value:
        return f"{name!r} has no value"
    return None if _VALUE.fullmatch(value) else f"the value of {name!r} is not printable ASCII"


def _find_conflict(changes: Iterable[HeaderChange]) -> str | None:
    """Explain which header has several changes: their order would decide, and it is not obvious (Gateway API)."""
    seen: set[str] = set()
    for change in changes:
        name = change.name.lower()
        if name in seen:
            return f"{change.name!r} has more than one change"
        seen.add(name)
    return None


class ControllerHalf:
    """What the controller loads."""

    @hookimpl
    def maesh_middleware_builders(self) -> Sequence[MiddlewareBuilder]:
        """Return the only builder of this plugin."""
        return [HeadersBuilder()]
