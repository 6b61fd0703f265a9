"""Decides whether the proxy of another node may have a connection to a server of this node.

Takes a delivery, and reads the current configuration; returns a verdict. The server must belong to the service that the
delivery names and to this node, the service must have encryption, and the guards of its router must allow the client. A
guard that decides by request makes the node judge each request (`ByRequest`). The other node may have a newer
configuration, so what is not known is waited for, in limits. Fails closed.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection
from typing import Final

from maesh_core.model.configuration import Service, list_chains
from maesh_core.model.keys import cut_port_key
from maesh_core.model.traffic_record import DENIED
from maesh_core.plugin_system.transports import OFF, ByRequest, Delivery, DeliveryVerdict, Refusal
from maesh_core.proxy.middleware.chain import find_method, read_verdict
from maesh_core.proxy.middleware.failures import MiddlewareFailures
from maesh_core.proxy.routing.sections import ResolvedSection
from maesh_core.proxy.transport.guards import list_reached

WAIT_S: Final = 2.0
"""How long a delivery to an unknown server waits for a newer configuration, which is usually on its way."""
WAITING_LIMIT: Final = 256
"""Deliveries that may wait at the same time; others are refused at once."""
WAITING_LIMIT_PER_NODE: Final = 64
HTTP: Final = "http"
HTTPS: Final = "https"
PROTOCOLS: Final = frozenset({HTTP, "tcp"})
BY_REQUEST: Final = ByRequest()

UNKNOWN_SERVICE: Final = "the server's node does not know the service"
UNKNOWN_SERVER: Final = "the server is not on this node"
NOT_ENCRYPTED: Final = "the service has no encryption"


class Deliveries:
    """The decisions of one worker. `get_section` returns the current part of a protocol.

    `names_clients` means that servers get the account of each client (`--client-header`).
    """

    __slots__ = (
        "_failures",
        "_get_section",
        "_guard_kinds",
        "_local",
        "_names_clients",
        "_node",
        "_updated",
        "_waiting",
    )

    def __init__(
        self,
        node: str,
        get_section: Callable[[str], ResolvedSection],
        *,
        guard_kinds: Collection[str],
        failures: MiddlewareFailures,
        names_clients: bool = False,
    ) -> None:
        self._node = node
        self._get_section = get_section
        self._guard_kinds = frozenset(guard_kinds)
        self._failures = failures
        self._names_clients = names_clients
        self._local: dict[tuple[str, str], tuple[Service, frozenset[tuple[str, int]]]] = {}
        self._updated = asyncio.Event()
        self._waiting: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<Deliveries to {self._node}, {self._waiting.total()} waiting>"

    async def judge(self, node: str, delivery: Delivery) -> DeliveryVerdict:
        """Decide about a delivery that another node asks for."""
        verdict = self.find_verdict(delivery)
        if not _is_unknown(verdict):
            return verdict
        if self._waiting[node] >= WAITING_LIMIT_PER_NODE or self._waiting.total() >= WAITING_LIMIT:
            return verdict
        self._waiting[node] += 1
        try:
            async with asyncio.timeout(WAIT_S):
                while _is_unknown(verdict):
                    await self._updated.wait()
                    verdict = self.find_verdict(delivery)
        except TimeoutError:
            pass
        finally:
            self._waiting[node] -= 1
            if not self._waiting[node]:
                del self._waiting[node]
        return verdict

    def on_update(self) -> None:
        """Judge the waiting deliveries again: the configuration has changed."""
        self._local.clear()
        self._updated.set()
        self._updated = asyncio.Event()

    def find_verdict(self, delivery: Delivery) -> DeliveryVerdict:
        """Decide by the current configuration."""
        if delivery.protocol not in PROTOCOLS:
            return Refusal(403, DENIED)
        resolved = self._get_section(delivery.protocol)
        service = resolved.section.services.get(delivery.service)
        router_key = cut_port_key(delivery.service)
        if service is None or delivery.service not in list_reached(resolved.section, (router_key,)):
            return Refusal(404, UNKNOWN_SERVICE)
        if service.encryption == OFF:
            return Refusal(404, NOT_ENCRYPTED)
        if (delivery.address, delivery.port) not in self._list_local(delivery, service):
            return Refusal(404, UNKNOWN_SERVER)
        chains = list_chains(resolved.section.routers[router_key])
        keys = dict.fromkeys(key for chain in chains for key in chain)
        verdicts = [self._ask_guard(resolved, key, delivery) for key in keys]
        if False in verdicts:
            return Refusal(403, DENIED)
        if self._names_clients and delivery.protocol == HTTP and service.scheme != HTTPS:
            return BY_REQUEST  # the account that the server gets is the one that this node knows
        return BY_REQUEST if None in verdicts else None

    def _list_local(self, delivery: Delivery, service: Service) -> frozenset[tuple[str, int]]:
        """Return the service's servers on this node; computed once for each configuration."""
        key = (delivery.protocol, delivery.service)
        found = self._local.get(key)
        if found is None or found[0] is not service:
            servers = [server for server in service.servers if server.node and server.node == self._node]
            found = self._local[key] = (service, frozenset((server.address, server.port) for server in servers))
        return found[1]

    def _ask_guard(self, resolved: ResolvedSection, key: str, delivery: Delivery) -> bool | None:
        """Return whether a middleware allows a delivery; None if it must see the requests.

        Those that are no guards allow all. The sender opens TLS to a server itself only if the service has no guards,
        so requests of `https` are always judged here.
        """
        compiled = resolved.middlewares.get(key)
        if compiled is None or compiled.instance is None:
            return False
        if compiled.kind not in self._guard_kinds:
            return True
        judge = find_method(compiled.instance, "judge_delivery")
        if judge is None:
            return False
        try:
            verdict = judge(delivery)
            is_allowed = read_verdict(verdict, default=delivery.protocol == HTTP)
        except Exception as error:  # fail closed: a guard that raises denies access
            self._failures.note(compiled.instance, error, "a delivery is denied")
            return False
        if is_allowed and delivery.protocol == HTTP:
            is_https = resolved.section.services[delivery.service].scheme == HTTPS
            return None if verdict is None or is_https else True
        return is_allowed


def _is_unknown(verdict: DeliveryVerdict) -> bool:
    """Whether a newer configuration may allow it."""
    return isinstance(verdict, Refusal) and verdict.status == 404
