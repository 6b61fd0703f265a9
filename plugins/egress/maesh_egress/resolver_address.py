"""The address of a DNS server in the setting `resolvers`: an IP address, with a port or without."""

from typing import NamedTuple

from maesh_egress.networks import parse_canonical

DNS_PORT = 53
_HIGHEST_PORT = 65535


class ResolverAddress(NamedTuple):
    """A DNS server."""

    address: str
    port: int


def parse_resolver(text: str) -> ResolverAddress:
    """Parse `ADDRESS`, `ADDRESS:PORT` or `[IPV6]:PORT`; raises ValueError."""
    host, port = text, str(DNS_PORT)
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":") if rest.startswith(":") else "" if rest else port
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    is_port = port.isascii() and port.isdecimal() and len(port) <= len(str(_HIGHEST_PORT))
    try:
        if is_port and 1 <= int(port) <= _HIGHEST_PORT:
            return ResolverAddress(parse_canonical(host), int(port))
    except ValueError:
        pass
    raise ValueError(f"resolvers: {text!r} is not an IP address, with a port or without, such as 10.0.0.10:53")
