"""Translates requests between HTTP/2 header lists and the HTTP/1.1 text of a RequestHead.

A received header list is checked (RFC 9113 section 8), rendered as an HTTP/1.1 head, and parsed like one that an
HTTP/1.1 client sent. So no request that HTTP/1.1 refuses can be forwarded to a server of HTTP/1.1.
"""

from typing import Final

from maesh_core.errors import ClientProtocolError, MalformedMessageError
from maesh_core.proxy.http.grpc import CONTENT_TYPE, find_timeout, is_call
from maesh_core.proxy.http.http2.field_syntax import build_fields, read_length, render_line, split_pseudo_fields
from maesh_core.proxy.http.http2.fields import Field, Fields
from maesh_core.proxy.http.messages.account_field import strip_fields
from maesh_core.proxy.http.messages.head_rules import HeadRules
from maesh_core.proxy.http.messages.request_head import STREAMED, RequestHead, render_start
from maesh_core.proxy.http.messages.request_parsing import parse_request_head
from maesh_core.proxy.http.messages.syntax import is_authority, is_path_and_query
from maesh_core.values.field_rules import is_token

_PSEUDO: Final = frozenset({b":method", b":scheme", b":authority", b":path"})
_SCHEMES: Final = frozenset({b"http", b"https"})


def read_request(fields: Fields, rules: HeadRules, *, has_body: bool) -> RequestHead:
    """Parse a request's header list; `has_body` means that its HEADERS frame does not end the stream.

    Raises MalformedMessageError, or ClientProtocolError for requests that HTTP/1.1 refuses, too: CONNECT and unknown
    methods (501), and unknown expectations (417).
    """
    if rules.drops_account:
        fields = strip_fields(fields)
    pseudo, regular = split_pseudo_fields(fields, _PSEUDO)
    method = pseudo.get(b":method", b"")
    if not is_token(method):
        raise MalformedMessageError("malformed or missing :method")
    if not rules.carries(method):  # before the other fields are checked: CONNECT has no :scheme and :path
        raise ClientProtocolError("method not supported", 501)
    if pseudo.get(b":scheme", b"").lower() not in _SCHEMES:
        raise MalformedMessageError("malformed or missing :scheme")
    target = pseudo.get(b":path", b"")
    if not is_path_and_query(target) and (target != b"*" or method != b"OPTIONS"):
        raise MalformedMessageError("malformed or missing :path")
    authority = _read_authority(pseudo, regular)
    length = read_length(regular)
    if length > 0 and not has_body:
        raise MalformedMessageError("Content-Length without a body")
    lines = _render_lines(regular)
    if length < 0 and has_body:
        lines.append(b"Transfer-Encoding: chunked\r\n")
    head = parse_request_head(b"".join((render_start(method, target, authority), *lines, b"\r\n")), rules)
    head.body = STREAMED if has_body else 0
    if CONTENT_TYPE in head.head and is_call(fields):
        head.is_grpc, head.grpc_timeout_s = True, find_timeout(fields)
    return head


def _read_authority(pseudo: dict[bytes, bytes], regular: list[Field]) -> bytes:
    """Return :authority, or Host if it is missing (RFC 9113 section 8.3.1)."""
    hosts = [value for name, value in regular if name == b"host"]
    authority = pseudo.get(b":authority", hosts[0] if hosts else b"")
    if not authority or not is_authority(authority):
        raise MalformedMessageError("malformed or missing :authority")
    if len(hosts) > 1 or (hosts and hosts[0].lower() != authority.lower()):
        raise MalformedMessageError("Host is repeated or differs from :authority")
    return authority


def _render_lines(regular: list[Field]) -> list[bytes]:
    """Render the fields except Host. Cookie fields are joined at the first one (RFC 9113 section 8.2.3)."""
    lines: list[bytes] = []
    cookies = [value for name, value in regular if name == b"cookie"]
    for name, value in regular:
        if name == b"cookie":
            if cookies:
                lines.append(render_line(name, b"; ".join(cookie for cookie in cookies if cookie)))
                cookies = []
        elif name != b"host":
            lines.append(render_line(name, value))
    return lines


def build_request_fields(text: bytes, *, scheme: bytes, takes_trailers: bool) -> Fields:
    """Build a request's header list from its HTTP/1.1 head as the mesh sends it, with or without empty line.

    Host becomes :authority, which is left out if Host is empty. `takes_trailers` adds `te: trailers`.
    """
    lines = text.split(b"\r\n")
    method, _, rest = lines[0].partition(b" ")
    regular = build_fields(lines[1:])
    fields: list[Field] = [(b":method", method), (b":scheme", scheme)]
    fields += [(b":authority", value) for name, value in regular if name == b"host" and value]
    fields.append((b":path", rest.partition(b" ")[0]))
    fields += [field for field in regular if field[0] != b"host"]
    if takes_trailers:
        fields.append((b"te", b"trailers"))
    return tuple(fields)
