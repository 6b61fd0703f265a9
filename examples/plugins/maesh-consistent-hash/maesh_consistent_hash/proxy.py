"""The proxy's half: weighted rendezvous hashing (Thaler and Ravishankar 1998; with weights, Schindelhauer 2005).

Each server has a score for each client, and the highest takes the request. So every worker of every node chooses
alike without talking; a server that goes moves its own clients alone, and one that comes takes its share from all.
"""

from collections.abc import Sequence
from hashlib import blake2b
from math import log

from maesh_consistent_hash import HashSettings
from maesh_core.plugin import BalancedServer, BalancerFactory, Chooser, Exchange, hookimpl

_BITS = 64
_MASK = (1 << _BITS) - 1


class ConsistentHash:
    """Chooses among the servers of one service."""

    def __init__(self, settings: HashSettings, servers: Sequence[tuple[BalancedServer, int]]) -> None:
        self._header = settings.header.encode() if settings.header else None
        self._seeds = {
            server: (_hash(f"{server.address} {server.port}".encode()), weight) for server, weight in servers
        }

    def __repr__(self) -> str:
        return f"<ConsistentHash of {len(self._seeds)} servers>"

    def choose(self, exchange: Exchange, servers: Sequence[BalancedServer]) -> BalancedServer:
        """Choose the server with the highest score for this client."""
        value = exchange.client_headers.get(self._header) if self._header else None
        client = _hash(exchange.client_address.encode() if value is None else value)
        return max(servers, key=lambda server: self._score(client, server))

    def _score(self, client: int, server: BalancedServer) -> float:
        seed, weight = self._seeds[server]
        return -weight / log((_mix(client ^ seed) + 0.5) / (1 << _BITS))


def _hash(text: bytes) -> int:
    """Hash to 64 bits, the same in every process."""
    return int.from_bytes(blake2b(text, digest_size=_BITS // 8).digest(), "little")


def _mix(number: int) -> int:
    """Spread 64 bits, as the end of splitmix64 does (Steele, Lea and Flood 2014): far cheaper than a hash."""
    number = (number ^ number >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    number = (number ^ number >> 27) * 0x94D049BB133111EB & _MASK
    return number ^ number >> 31


class ConsistentHashFactory:
    """Builds what chooses for each service."""

    name = "consistent-hash"
    settings_type = HashSettings

    def build_balancer(
        self, settings: HashSettings, servers: Sequence[tuple[BalancedServer, int]], former: Chooser | None
    ) -> ConsistentHash:
        """Build what chooses for one service; it has nothing to take over."""
        return ConsistentHash(settings, servers)


class ProxyHalf:
    """What a proxy loads."""

    @hookimpl
    def maesh_balancer_factories(self) -> Sequence[BalancerFactory]:
        """Return the one factory of this plugin."""
        return [ConsistentHashFactory()]
