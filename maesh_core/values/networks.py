"""Sets of IP addresses in settings: addresses and networks, all, or none.

Takes text; raises ValueError for invalid networks, and checks whether an address is in the set. An IPv4 address in IPv6
notation (`::ffff:10.0.0.1`, RFC 4291 section 2.5.5.2) counts as the IPv4 address.
"""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

ALL = "all"
NONE = "none"
RULE = f"{ALL}, {NONE}, or addresses and networks such as 10.0.0.7,10.1.0.0/16,fd00::/8"
KEPT_ADDRESSES = 4096
"""Number of addresses whose result each set caches: parsing one takes 3 us, and clients return."""

_MAPPED_BITS = 96


def parse_networks(raw: Sequence[str]) -> tuple[str, ...]:
    """Check a set's members and convert them to canonical form; `none` or no members: empty. Raises ValueError.

    An address with the length of its network (`10.0.0.7/16`) is refused, because it is ambiguous.
    """
    members = [member.strip().lower() for member in raw if member.strip()]
    if members == [ALL]:
        return (ALL,)
    if members in ([], [NONE]):
        return ()
    try:
        return tuple(dict.fromkeys(str(_read_network(member)) for member in members))
    except ValueError as error:
        raise ValueError(RULE) from error


class Networks:
    """A set from the result of `parse_networks`."""

    __slots__ = ("_covers", "_members", "is_all")

    def __init__(self, members: Sequence[str]) -> None:
        self.is_all = tuple(members) == (ALL,)
        self._members = () if self.is_all else tuple(_read_network(member) for member in members)
        self._covers = lru_cache(maxsize=KEPT_ADDRESSES)(self._search)

    def __repr__(self) -> str:
        return f"<Networks {ALL if self.is_all else ','.join(map(str, self._members)) or NONE}>"

    def covers(self, address: str) -> bool:
        """Whether an address is in the set; text that is not an address is only in `all`."""
        return self.is_all or (bool(self._members) and self._covers(address))

    def _search(self, text: str) -> bool:
        try:
            address = _unmap(ip_address(text))
        except ValueError:
            return False
        return any(address in member for member in self._members)


def _unmap(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped if mapped is not None else address


def _read_network(text: str) -> IPv4Network | IPv6Network:
    network = ip_network(text)
    if isinstance(network, IPv6Network) and network.prefixlen >= _MAPPED_BITS:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return IPv4Network((mapped, network.prefixlen - _MAPPED_BITS))
    return network
