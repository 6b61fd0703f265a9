"""Templates of lines: their syntax, and the names of fields. Pure; rendering.py has the values of the fields.

A template is text with fields, as in `%{ClientHost} %{RequestPath}`. `%%` is a percent sign. The names of fields are
those of Traefik's access log where it has the field.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from maesh_core.plugin import suggest

COMMON: Final = "common"
JSON: Final = "json"

HEADER_PREFIX: Final = "request_"
"""`%{request_User-Agent}` is a header of the request."""
LITERAL_LIMIT: Final = 1024
FIELD_LIMIT: Final = 40
"""Limits of the fields of a template and of its other text: within them, a line with short texts is never cut."""


class Field:
    """A field: its operator in Envoy's access log, empty if it has none, and what it means."""

    __slots__ = ("envoy", "meaning")

    def __init__(self, envoy: str, meaning: str) -> None:
        self.envoy = envoy
        self.meaning = meaning

    def __repr__(self) -> str:
        return f"<Field {self.meaning}>"


FIELDS: Final[Mapping[str, Field]] = {
    "StartUTC": Field("START_TIME", "when it began, in UTC (RFC 3339) with milliseconds"),
    "ClientHost": Field("DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", "the address of the connection's other end"),
    "ClientPod": Field("", "the pod with this address, `namespace/name`; empty if it is not known"),
    "RequestPath": Field("REQ(:PATH)", "the path and query"),
    "RequestHost": Field("REQ(:AUTHORITY)", "the host"),
    "entryPointName": Field("DOWNSTREAM_LOCAL_PORT", "the port of the entrypoint"),
    "RouterName": Field("ROUTE_NAME", "the route: the called service, `namespace/name:port`"),
    "ServiceName": Field(
        "UPSTREAM_CLUSTER",
        "the service, or the branch of a traffic split with the service that was picked: "
        "`shop/web:80/split/beta/web-v2`",
    ),
    "ServiceAddr": Field("UPSTREAM_HOST", "address or DNS name of the last attempt's server, with the port"),
    "ServerPath": Field("", "with encryption: `local`, `encrypted` or `clear`"),
    "ServerNode": Field("", "with encryption: the node of the server"),
    "Kind": Field("", "`http`, `tunnel`, `tcp`, `udp`, or `refused` if nothing was routed"),
    "RequestProtocol": Field("PROTOCOL", "`HTTP/1.0`, `HTTP/1.1`, `HTTP/2`, `TCP` or `UDP`"),
    "RequestMethod": Field("REQ(:METHOD)", "the method"),
    "Attempts": Field("UPSTREAM_REQUEST_ATTEMPT_COUNT", "the number of attempts; 0 if no server was tried"),
    "RetryAttempts": Field("", "the number of attempts after the first"),
    "DownstreamStatus": Field("RESPONSE_CODE", "the status; 499 if the client left first, 0 without HTTP"),
    "GrpcStatus": Field("GRPC_STATUS_NUMBER", "the status of a gRPC call"),
    "Reason": Field("RESPONSE_CODE_DETAILS", "why the mesh itself answered, refused or ended it"),
    "WouldDeny": Field("", "in audit mode: why access control would have denied it"),
    "RequestContentSize": Field("BYTES_RECEIVED", "bytes of the request's body, or bytes that the client sent"),
    "DownstreamContentSize": Field("BYTES_SENT", "bytes of the response's body, or bytes that were sent to the client"),
    "Duration": Field("", "nanoseconds until it ended"),
    "OriginDuration": Field("", "nanoseconds from the start of the last attempt to the head of its response"),
    "DurationMs": Field("DURATION", "`Duration` in milliseconds, with three decimals"),
    "OriginDurationMs": Field("", "`OriginDuration` in milliseconds, with three decimals"),
}
TEMPLATE_ONLY: Final = frozenset({"DurationMs", "OriginDurationMs"})
"""Fields that format `json` leaves out, because they repeat others."""

HEADER_LIMIT: Final = 16
HEADER_NAMES_LIMIT: Final = 512
"""Bounds of the headers that format `json` adds, for the same reason."""

_is_header = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
"""A header's name is a token (RFC 9110 section 5.6.2)."""
_PART = re.compile(r"%(?:%|\{([^{}]*)\})?")


def check_format(text: str) -> None:
    """Raise ValueError if a text is neither the name of a format nor a template."""
    if text not in (COMMON, JSON):
        parse_template(text)


def parse_template(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split a template into its literal texts and the names of the fields between them; raises ValueError."""
    if "%{" not in text:
        raise ValueError(f"format: {text!r} is not common, json or a template with fields such as %{{RequestPath}}")
    if not text.isprintable():
        raise ValueError("format: a template cannot contain line ends or other control characters")
    literals, names, end = [""], [], 0
    for match in _PART.finditer(text):
        literals[-1] += text[end : match.start()]
        end = match.end()
        if match[0] == "%%":
            literals[-1] += "%"
            continue
        if match[1] is None:
            raise ValueError("format: write %% for a percent sign, and %{NAME} for a field")
        _check_name(match[1])
        names.append(match[1])
        literals.append("")
    literals[-1] += text[end:]
    if len(names) > FIELD_LIMIT or sum(len(each.encode()) for each in literals) > LITERAL_LIMIT:
        raise ValueError(
            f"format: a template has at most {FIELD_LIMIT} fields, and {LITERAL_LIMIT} bytes of other text"
        )
    return tuple(literals), tuple(names)


def shows_field(form: str, name: str) -> bool:
    """Whether a format shows a field that `common` does not have."""
    if form in (COMMON, JSON):
        return form == JSON and name not in TEMPLATE_ONLY
    return name in parse_template(form)[1]


def check_headers(names: Sequence[str]) -> None:
    """Raise ValueError if format `json` cannot add these headers."""
    for name in names:
        if not _is_header(name):
            raise ValueError(f"headers: {name!r} is not the name of a header")
    if len(names) > HEADER_LIMIT or sum(map(len, names)) > HEADER_NAMES_LIMIT:
        raise ValueError(f"headers: at most {HEADER_LIMIT} headers, with names of {HEADER_NAMES_LIMIT} characters")


def _check_name(name: str) -> None:
    if name in FIELDS or (name.startswith(HEADER_PREFIX) and _is_header(name.removeprefix(HEADER_PREFIX))):
        return
    raise ValueError(f"format: there is no field {name!r}{suggest(name, FIELDS)}")
