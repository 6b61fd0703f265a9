"""Servers that are known by a DNS name: what their names resolve to, and the services that have them.

The parent of a proxy's workers resolves names and sends the results to each worker, which then treats the addresses as
servers of the service. Values, and pure functions.
"""

from collections.abc import Iterator, Mapping
from math import lcm

import msgspec

from maesh_core.model.addresses import parse_address
from maesh_core.model.configuration import Answer, NamedServer, Server, Service
from maesh_core.model.schemes import ENCRYPTED_SCHEMES

NAME_ADDRESSES = "names/addresses"
"""The name under which the parent hands over addresses; no transport can have it, because of the slash."""
ADDRESS_LIMIT = 32
"""Addresses of one name that are used. Answers of public services have at most a dozen."""
_NOT_RESOLVED = "is not resolved yet"
_DEFAULT_PORTS = {"https": 443}
_HTTP_PORT = 80
_NO_ADDRESS = 503


class NameAddresses(msgspec.Struct, frozen=True, omit_defaults=True):
    """The addresses of a name, in canonical form. `problem` explains why there are none, to follow the name."""

    addresses: tuple[str, ...] = ()
    problem: str = ""

    def __post_init__(self) -> None:
        """Refuse what is not an address."""
        if any(parse_address(address) != address for address in self.addresses):
            raise ValueError(f"{self.addresses!r} are not IP addresses in canonical form")


AddressTable = Mapping[str, NameAddresses]
"""What each name resolves to."""

_DECODER = msgspec.json.Decoder(dict[str, NameAddresses])


def encode_addresses(table: AddressTable) -> bytes:
    """Encode a table for the workers."""
    return msgspec.json.encode(table)


def decode_addresses(payload: bytes) -> AddressTable:
    """Decode a table; raises msgspec.DecodeError."""
    return _DECODER.decode(payload)


def fill_service(service: Service, table: AddressTable) -> Service:
    """Add servers for the names of a service. If it then has none, it answers with the reason."""
    if not service.names:
        return service
    found = [(each, table.get(each.name, NameAddresses(problem=_NOT_RESOLVED))) for each in service.names]
    counts = [len(resolved.addresses) for _, resolved in found if resolved.addresses]
    share = lcm(*counts) if counts else 1
    servers = [msgspec.structs.replace(each, weight=each.weight * share) for each in service.servers]
    for each, resolved in found:
        servers += _build_servers(each, resolved, service.scheme, share)
    if servers or service.answer is not None:
        return msgspec.structs.replace(service, servers=tuple(servers))
    problems = dict.fromkeys(f"{each.name} {resolved.problem or 'has no address'}" for each, resolved in found)
    return msgspec.structs.replace(service, answer=Answer(status=_NO_ADDRESS, reason="; ".join(problems)))


def _build_servers(named: NamedServer, resolved: NameAddresses, scheme: str, share: int) -> Iterator[Server]:
    """Build a server for each address of a name; together they have the weight `share`."""
    addresses = resolved.addresses[:ADDRESS_LIMIT]
    for address in addresses:
        yield Server(
            address=address,
            port=named.port,
            weight=share // len(addresses),
            tls_name=(named.tls_name or named.name) if scheme in ENCRYPTED_SCHEMES else "",
            name=named.name,
            authority=_render_authority(named, scheme),
            hides_client=named.hides_client,
        )


def _render_authority(named: NamedServer, scheme: str) -> str:
    """Render the Host to send, with the port unless it is the scheme's own; empty for the client's."""
    if not named.host or ":" in named.host or named.port == _DEFAULT_PORTS.get(scheme, _HTTP_PORT):
        return named.host
    return f"{named.host}:{named.port}"
