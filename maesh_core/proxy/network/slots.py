"""Counts the slots of one handler: its connections in total, and per client address.

Takes a client's address when it connects and when it leaves, decides whether it may connect, and counts refused
clients. It closes nothing itself: a handler that can evict idle connections passes a function for it.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from maesh_core.model.addresses import IPV4_MAPPED_PREFIX
from maesh_core.model.metrics import MetricFamily
from maesh_core.settings import CarryingSettings

SettingsT = TypeVar("SettingsT", bound=CarryingSettings)

CONNECTION_LIMIT = "connection-limit"
CLIENT_CONNECTION_LIMIT = "client-connection-limit"
"""The setting that limits a refused client."""

DESCRIPTORS_PER_CLIENT = 3
"""Descriptors per slot: one for the client, one for its server, and one spare for clients of the other protocol.
With fewer, accepting would fail before the slots run out, and no idle connection would ever be evicted."""


def fit_connection_limit(settings: SettingsT, open_files: int | None) -> SettingsT:
    """Lower `connection_limit` to what a process with `open_files` descriptors can serve; None means no limit."""
    if open_files is None:
        return settings
    most = max(1, open_files // DESCRIPTORS_PER_CLIENT)
    return settings if 0 < settings.connection_limit <= most else replace(settings, connection_limit=most)


class Slots:
    """The slots of a handler. Connections and tunnels of one address are counted together."""

    __slots__ = ("_by_address", "evicted", "refused")

    def __init__(self) -> None:
        self._by_address: dict[str, int] = {}
        self.refused = {CONNECTION_LIMIT: 0, CLIENT_CONNECTION_LIMIT: 0}
        self.evicted = 0

    def __repr__(self) -> str:
        return f"<Slots of {len(self._by_address)} addresses, evicted={self.evicted} refused={self.refused}>"

    def acquire(
        self, address: str, settings: CarryingSettings, *, taken: int, evict: Callable[[], bool] | None = None
    ) -> bool:
        """Take a slot for an address, where `taken` slots are in use; return False, and count it, if none is free.

        `evict` frees a slot and returns whether it could. It is only called for a client within its own limit.
        """
        address = address.removeprefix(IPV4_MAPPED_PREFIX)
        held = self._by_address.get(address, 0)
        if 0 < settings.client_connection_limit <= held:
            self.refused[CLIENT_CONNECTION_LIMIT] += 1
            return False
        if 0 < settings.connection_limit <= taken:
            if evict is None or not evict():
                self.refused[CONNECTION_LIMIT] += 1
                return False
            self.evicted += 1
            held = self._by_address.get(address, 0)  # the evicted connection may have had the same address
        self._by_address[address] = held + 1
        return True

    def release(self, address: str) -> None:
        """Release a slot of an address."""
        address = address.removeprefix(IPV4_MAPPED_PREFIX)
        left = self._by_address[address] - 1
        if left:
            self._by_address[address] = left
        else:
            del self._by_address[address]

    def count_refused(self, name: str) -> MetricFamily:
        """Build the metric of refused clients, by the setting that limits them."""
        return MetricFamily(
            name=name,
            type="counter",
            help="Clients refused at a connection limit, by setting.",
            labels=("reason",),
            samples=[((reason,), float(count)) for reason, count in self.refused.items()],
        )
