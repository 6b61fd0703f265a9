"""Which of the addresses that DNS returns may be used.

DNS is outside of the mesh, and the owner of a name chooses its addresses. So by default only public addresses are
used: a name must not lead a proxy to pods, to its own node, or to the metadata service of a cloud. The setting
`networks` allows others.
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from maesh_egress.networks import Network, parse_network

_SPECIAL = tuple(
    map(
        ip_network,
        (
            "127.0.0.0/8",
            "::1/128",
            "169.254.0.0/16",  # link-local, with the metadata service of most clouds
            "fe80::/10",
            "fec0::/10",  # site-local: without use (RFC 3879), but not reserved in the registry
            "fd00:ec2::/32",  # the metadata service of AWS
            "100.100.100.200/32",  # that of Alibaba Cloud
            "168.63.129.16/32",  # that of Azure, among public addresses
            "192.0.0.0/24",  # with that of Oracle Cloud
        ),
    )
)
"""Networks that must be allowed by themselves: a network that includes one of them does not allow it."""
_NAT64 = ip_network("64:ff9b::/96")
_NEVER = tuple(map(ip_network, ("0.0.0.0/8", "255.255.255.255/32", "::/128")))

_Address = IPv4Address | IPv6Address


class UsableAddresses:
    """Decides by the networks that are allowed besides public addresses."""

    __slots__ = ("_networks",)

    def __init__(self, networks: Sequence[str]) -> None:
        self._networks = tuple(map(parse_network, networks))

    def __repr__(self) -> str:
        """Show the networks."""
        return f"<UsableAddresses public {' '.join(map(str, self._networks))}>"

    def __contains__(self, text: str) -> bool:
        """Whether an address in canonical form may be used."""
        return all(self._allows(address) for address in _list_meanings(ip_address(text)))

    def _allows(self, address: _Address) -> bool:
        if address.is_multicast or any(address in network for network in _NEVER):
            return False
        special = next((network for network in _SPECIAL if address in network), None)
        for network in self._networks:
            if address in network and (special is None or _is_within(network, special)):
                return True
        return special is None and address.is_global and not address.is_reserved


def _is_within(network: Network, outer: Network) -> bool:
    if isinstance(network, IPv4Network):
        return isinstance(outer, IPv4Network) and network.subnet_of(outer)
    return isinstance(outer, IPv6Network) and network.subnet_of(outer)


def _list_meanings(address: _Address) -> tuple[_Address, ...]:
    """List an address, and the IPv4 address in it that packets may be sent to (RFC 6052, RFC 3056)."""
    if isinstance(address, IPv4Address):
        return (address,)
    inner = address.ipv4_mapped or address.sixtofour
    if inner is not None:
        return address, inner
    return (IPv4Address(address.packed[-4:]),) if address in _NAT64 else (address,)
