"""The networks of the setting `networks`, and addresses in canonical form. Raises ValueError for invalid text."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network


def parse_network(text: str) -> Network:
    """Parse a network, or an address, which is a network of its own."""
    try:
        return ip_network(text)
    except ValueError as error:
        raise ValueError(f"networks: {text!r} is not a network such as 10.20.0.0/16") from error


def parse_canonical(text: str) -> str:
    """Convert an address to its canonical form (RFC 5952); an IPv4 address in IPv6 notation is the IPv4 address.

    Raises ValueError.
    """
    address: IPv4Address | IPv6Address = ip_address(text)
    if isinstance(address, IPv6Address):
        if address.scope_id:
            raise ValueError(f"{text!r} has a zone")
        address = address.ipv4_mapped or address
    return str(address)
