"""Renders the fields that identify the client: X-Forwarded-For, -Host, -Port, -Proto, -Server and X-Real-Ip.

The client's address is appended to X-Forwarded-For, and X-Forwarded-Server is set to the mesh's name. The other fields
are set only if the client sent none, to keep those of an ingress in front. As in Traefik and Maesh, the mesh bases no
decision on these fields. head_rules.py decides whose fields are kept.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final

from maesh_core.model.transport import ClientEntry
from maesh_core.proxy.http.messages.account_field import render_account
from maesh_core.proxy.http.messages.syntax import parse_port

CACHED_FORWARDED_FIELDS: Final = 1024
"""A client that sends requests to one host uses one entry, which all its connections share."""
NO_FORWARDED: Final = b"\r\n"
"""The end of a request head without any of these fields."""
FindClient = Callable[[str], ClientEntry | None]
_NOTHING: Final[Mapping[bytes, bytes]] = {}
_NAMES: Final = {
    name.lower(): name
    for name in (
        b"X-Forwarded-For",
        b"X-Forwarded-Host",
        b"X-Forwarded-Port",
        b"X-Forwarded-Proto",
        b"X-Forwarded-Server",
        b"X-Real-Ip",
    )
}


class ForwardedFields:
    """The forwarded fields of one client connection. The rendered form is reused while the host stays the same."""

    __slots__ = ("_address", "_authority", "_rendered", "_server")

    def __init__(self, address: str, server: bytes) -> None:
        self._address = address
        self._server = server
        self._authority: bytes | None = None
        self._rendered = b""

    def render(self, authority: bytes, sent: Mapping[bytes, bytes] | None) -> bytes:
        """Render the end of a request head to `authority`; `sent` holds the client's fields, by lower-case name."""
        if sent is not None:
            return _render(self._address, authority, self._server, sent)
        if authority != self._authority:
            self._rendered = _render_shared(self._address, authority, self._server)
            self._authority = authority
        return self._rendered


class AccountFields(ForwardedFields):
    """The fields of another renderer, after the client's account, which is looked up for each request."""

    __slots__ = ("_fields", "_find_client")

    def __init__(self, fields: ForwardedFields, address: str, find_client: FindClient) -> None:
        super().__init__(address, b"")
        self._fields = fields
        self._find_client = find_client

    def render(self, authority: bytes, sent: Mapping[bytes, bytes] | None) -> bytes:
        """Render the end of a request head; without a known account, it has no such field."""
        entry = self._find_client(self._address)
        rendered = self._fields.render(authority, sent)
        return rendered if entry is None else render_account(entry.account) + rendered


class PassedFields(ForwardedFields):
    """The forwarded fields of requests that another node of the mesh has sent on: the same as it has sent."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__("", b"")

    def render(self, authority: bytes, sent: Mapping[bytes, bytes] | None) -> bytes:
        """Render the end of a request head."""
        known: Mapping[bytes, bytes] = sent or _NOTHING
        lines = [b"%b: %b\r\n" % (name, known[lower]) for lower, name in _NAMES.items() if lower in known]
        return b"".join((*lines, b"\r\n"))


@lru_cache(maxsize=CACHED_FORWARDED_FIELDS)
def _render_shared(address: str, authority: bytes, server: bytes) -> bytes:
    return _render(address, authority, server, _NOTHING)


def _render(address: str, authority: bytes, server: bytes, sent: Mapping[bytes, bytes]) -> bytes:
    client = address.encode()
    chain = sent.get(b"x-forwarded-for")
    proto = sent.get(b"x-forwarded-proto", b"http")
    port = parse_port(authority) or (b"443" if proto.lower() in (b"https", b"wss") else b"80")
    return b"".join(
        (
            b"X-Forwarded-For: ",
            chain + b", " + client if chain else client,
            b"\r\nX-Forwarded-Host: ",
            sent.get(b"x-forwarded-host", authority),
            b"\r\nX-Forwarded-Port: ",
            sent.get(b"x-forwarded-port", port),
            b"\r\nX-Forwarded-Proto: ",
            proto,
            b"\r\nX-Forwarded-Server: ",
            server,
            b"\r\nX-Real-Ip: ",
            sent.get(b"x-real-ip", client),
            b"\r\n\r\n",
        )
    )
