"""What a tap shows, and what it selects: the live view of requests that `maesh tap` and `/api/tap` offer.

A worker makes a TappedRecord of each record that passes the filter; parent and controller pass it on as JSON. Values of
a filter are checked here, in one place for all processes. Pure values, no I/O.
"""

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

import msgspec

from maesh_core.model.addresses import parse_address

if TYPE_CHECKING:
    from maesh_core.model.traffic_record import TrafficRecord  # a part of the engine, which only workers load

LINE_LIMIT_BYTES: Final = 32 * 1024
"""Limit of a line of JSON; a record with all texts at their limits is shorter, even if each character is escaped."""
PATH_LIMIT: Final = 1024
TEXT_LIMIT: Final = 256
"""Limits of characters, of the path and of every other text; longer ones are cut."""
STATUSES_LIMIT: Final = 10
"""Limit of ranges of statuses in a filter."""

SERVICE_FORM: Final = "service must be NAMESPACE/NAME or NAMESPACE/NAME:PORT"
METHOD_FORM: Final = "method must be a method such as GET"
PATH_FORM: Final = f"path must be the beginning of a path, or a pattern with *, of at most {PATH_LIMIT} characters"
STATUS_FORM: Final = "status must be like 404, 5xx or 500-599, or several of them with commas, like 404,5xx"
SOURCE_FORM: Final = "source must be an IP address"
FILTER_NAMES: Final = ("service", "method", "path", "status", "source")

_is_service = re.compile(r"[^/:\s]{1,253}/[^/:\s]{1,253}(?::[1-9][0-9]{0,4})?", re.ASCII).fullmatch
_is_method = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}", re.ASCII).fullmatch
_match_status = re.compile(r"([1-9])(?:xx|XX)|([1-9][0-9]{2})(?:-([1-9][0-9]{2}))?", re.ASCII).fullmatch


class TapFilter(msgspec.Struct, frozen=True, kw_only=True):
    """What a record must have to be shown; an empty value selects every record.

    `service` may be without its port. `path` is a pattern if it contains `*`, else the beginning of a path. `statuses`
    are ranges, both ends included. `source` is the client's address.
    """

    service: str = ""
    method: str = ""
    path: str = ""
    statuses: tuple[tuple[int, int], ...] = ()
    source: str = ""


class TappedRecord(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One record of a tap, as JSON has it. Its texts come from clients and servers: escape them before you print them.

    The fields are those of a TrafficRecord. `source` is the client's pod as `namespace/name`, if the controller knows
    exactly one. `path` is without the query, which may contain secrets. `server_path` is `local`, `encrypted` or
    `clear`, for services with encryption.
    """

    kind: str
    started_at: float
    duration_s: float
    client: str
    source: str = ""
    entrypoint: int = 0
    protocol: str = ""
    service: str = ""
    destination: str = ""
    server: str = ""
    attempts: int = 0
    status: int = 0
    grpc_status: int | None = None
    reason: str = ""
    received_bytes: int = 0
    sent_bytes: int = 0
    upstream_s: float | None = None
    method: str = ""
    host: str = ""
    path: str = ""
    server_path: str = ""
    server_node: str = ""
    would_deny: str = ""


_CUT_NAMES: Final[tuple[str, ...]] = (
    "kind",
    "client",
    "source",
    "protocol",
    "service",
    "destination",
    "server",
    "reason",
    "method",
    "host",
    "server_path",
    "server_node",
    "would_deny",
)


class TapDrops(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line that says how many records were dropped since the last such line."""

    dropped: int


class TapError(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A line that says that records are missing: those of the proxy `node`, or those that need `controller`."""

    error: str
    node: str = ""
    controller: str = ""


def render_dropped(count: int) -> bytes:
    """Render the line that says how many records were dropped."""
    return msgspec.json.encode(TapDrops(count)) + b"\n"


def parse_filter(parameters: Mapping[str, str]) -> TapFilter:
    """Parse the parameters of a tap; raises ValueError with the form that a parameter must have."""
    unknown = sorted(set(parameters) - set(FILTER_NAMES))
    if unknown:
        raise ValueError(f"unknown parameter {unknown[0]!r}; the parameters are {', '.join(FILTER_NAMES)}")
    service, method, path, status, source = (parameters.get(name, "") for name in FILTER_NAMES)
    if service and not _is_service(service):
        raise ValueError(SERVICE_FORM)
    if method and not _is_method(method):
        raise ValueError(METHOD_FORM)
    if len(path) > PATH_LIMIT or not (path.startswith(("/", "*")) or not path):
        raise ValueError(PATH_FORM)
    address = parse_address(source) if source else ""
    if address is None:
        raise ValueError(SOURCE_FORM)
    return TapFilter(service=service, method=method, path=path, statuses=parse_statuses(status), source=address)


def parse_statuses(text: str) -> tuple[tuple[int, int], ...]:
    """Parse `404`, `5xx`, `500-599`, or several of them with commas; raises ValueError."""
    ranges = []
    for part in text.split(",") if text else ():
        match = _match_status(part.strip())
        if match is None:
            raise ValueError(STATUS_FORM)
        digit, first, last = match.groups()
        ranges.append((int(digit) * 100, int(digit) * 100 + 99) if digit else (int(first), int(last or first)))
    if len(ranges) > STATUSES_LIMIT or any(first > last for first, last in ranges):
        raise ValueError(STATUS_FORM)
    return tuple(ranges)


def compile_path(pattern: str) -> Callable[[str], bool]:
    """Compile a path's filter: a pattern in which each `*` stands for any characters, or the beginning of the path."""
    if "*" not in pattern:
        return lambda path: path.startswith(pattern)
    first, *middle, last = pattern.split("*")

    def matches(path: str) -> bool:
        if len(path) < len(first) + len(last) or not (path.startswith(first) and path.endswith(last)):
            return False
        at, end = len(first), len(path) - len(last)
        for part in middle:  # the leftmost place of each part leaves the most room for those after it
            at = path.find(part, at, end)
            if at < 0:
                return False
            at += len(part)
        return True

    return matches


def compile_filter(chosen: TapFilter) -> "Callable[[TrafficRecord], bool]":
    """Compile a filter into a function that says whether a record is shown; the cheapest checks come first."""
    service, beginning = chosen.service, f"{chosen.service}:"
    is_whole = ":" in service
    method, source, statuses = chosen.method.encode(), chosen.source, chosen.statuses
    is_path = compile_path(chosen.path) if chosen.path else None

    def passes(record: "TrafficRecord") -> bool:
        if service and not (record.service == service if is_whole else record.service.startswith(beginning)):
            return False
        if (method and record.method != method) or (source and record.client != source):
            return False
        if statuses and not any(first <= record.status <= last for first, last in statuses):
            return False
        return is_path is None or is_path(read_path(record.target))

    return passes


def build_tapped(record: "TrafficRecord") -> TappedRecord:
    """Build what a tap shows of a record; bytes that are not UTF-8 become U+FFFD.

    Texts from clients and servers are cut here, names of the configuration only after the controller has replaced them.
    """
    return TappedRecord(
        kind=record.kind,
        started_at=record.started_at,
        duration_s=record.duration_s,
        client=record.client,
        entrypoint=record.entrypoint,
        protocol=record.protocol,
        service=record.service,
        destination=record.destination,
        server=record.server,
        attempts=record.attempts,
        status=record.status,
        grpc_status=record.grpc_status,
        reason=record.reason[:TEXT_LIMIT],
        received_bytes=record.received_bytes,
        sent_bytes=record.sent_bytes,
        upstream_s=record.upstream_s,
        method=_decode(record.method, TEXT_LIMIT),
        host=_decode(record.host, TEXT_LIMIT),
        path=read_path(record.target),
        server_path=record.server_path,
        server_node=record.server_node,
        would_deny=record.would_deny[:TEXT_LIMIT],
    )


def cut_texts(record: TappedRecord) -> TappedRecord:
    """Cut all texts of a record to their limits."""
    if len(record.path) <= PATH_LIMIT and all(len(getattr(record, name)) <= TEXT_LIMIT for name in _CUT_NAMES):
        return record
    cut: dict[str, str] = {name: getattr(record, name)[:TEXT_LIMIT] for name in _CUT_NAMES}
    return msgspec.structs.replace(record, **cut, path=record.path[:PATH_LIMIT])


def read_path(target: bytes) -> str:
    """Read the path of a request's target, without the query and cut to PATH_LIMIT."""
    if not target.startswith(b"/"):
        _, mark, rest = target.partition(b"://")  # the absolute form (RFC 9112 section 3.2.2)
        if mark:
            target = b"/" + rest.partition(b"?")[0].partition(b"/")[2]
    return _decode(target.partition(b"?")[0], PATH_LIMIT)


def _decode(data: bytes, limit: int) -> str:
    return data[: 4 * limit].decode(errors="replace")[:limit]
