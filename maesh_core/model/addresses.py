"""IP addresses as text, in their canonical form.

Returns None for invalid addresses: names, zones, and the octal and short forms that some resolvers still accept.
"""

import socket

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
