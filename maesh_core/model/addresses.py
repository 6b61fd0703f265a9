"""IP addresses as text, in their one canonical spelling.

Gives None for what is no address: names, zones, and the octal and short forms that some resolvers still take.
"""

import socket


def parse_address(text: str) -> str | None:
    """Spell an IPv4 or IPv6 address canonically (RFC 5952: lower case, zeros compressed), or None."""
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    try:
        packed = socket.inet_pton(family, text)
    except (OSError, ValueError):
        return None
    return text if family == socket.AF_INET else socket.inet_ntop(family, packed)
