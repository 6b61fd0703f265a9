"""IP addresses as text: their canonical form, and how they are written with a port.

`parse_address` returns None for invalid addresses: names, zones, and the octal and short forms that some resolvers
still accept.
"""

import socket
from typing import Final

IPV4_MAPPED_PREFIX: Final = "::ffff:"
"""A socket for both families shows an IPv4 client with this before its address (RFC 4291 section 2.5.5.2)."""

_MAPPED_PREFIX = bytes(10) + b"\xff\xff"
"""Prefix of an IPv4 address in IPv6 notation (RFC 4291 section 2.5.5.2)."""


def parse_address(text: str) -> str | None:
    """Convert an IPv4 or IPv6 address to its canonical form (RFC 5952: lower case, zeros compressed), or return None.

    An IPv4-mapped IPv6 address, `::ffff:10.0.0.1`, is the IPv4 address: both name the same host.
    """
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    try:
        packed = socket.inet_pton(family, text)
    except (OSError, ValueError):
        return None
    if family == socket.AF_INET:
        return text
    if packed.startswith(_MAPPED_PREFIX):
        return socket.inet_ntop(socket.AF_INET, packed[len(_MAPPED_PREFIX) :])
    return socket.inet_ntop(family, packed)


def bracket_address(host: str) -> str:
    """Write a host as in a URL: an IPv6 address is in brackets (RFC 3986 section 3.2.2)."""
    return f"[{host}]" if ":" in host else host


def join_port(host: str, port: int) -> str:
    """Write a host and a port as in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
