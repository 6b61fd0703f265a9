"""Who holds the slots of one handler: as many connections as `--connection-limit` allows, and how many each client.

Takes a client's address when it connects and when it has left; says whether it may connect, and counts the refused.
It closes nothing: a handler that can evict idle connections passes a function that does.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from maesh_core.model.metrics import MetricFamily
from maesh_core.settings import CarryingSettings

SettingsT = TypeVar("SettingsT", bound=CarryingSettings)

CONNECTION_LIMIT = "connection-limit"
CLIENT_CONNECTION_LIMIT = "client-connection-limit"
"""Why a client is refused: the setting that bounds it."""

DESCRIPTORS_PER_CLIENT = 3
"""Descriptors for each slot: one for the client, one for its server, and one to spare for the other protocol's clients.
With fewer, accepting would fail before the slots run out, and no idle connection would ever be evicted."""

_MAPPED = "::ffff:"


def fit_connection_limit(settings: SettingsT, open_files: int | None) -> SettingsT:
    """Lower `connection_limit` to what a process with so many descriptors can serve; None: any number."""
    if open_files is None:
        return settings
    most = max(1, open_files // DESCRIPTORS_PER_CLIENT)
    return settings if 0 < settings.connection_limit <= most else replace(settings, connection_limit=most)


class Slots:
    """The slots of a handler. Connections and tunnels of one address count together."""

    __slots__ = ("_by_address", "evicted", "refused")

    def __init__(self) -> None:
        self._by_address: dict[str, int] = {}
        self.refused = {CONNECTION_LIMIT: 0, CLIENT_CONNECTION_LIMIT: 0}
        self.evicted = 0

    def __repr__(self) -> str:
        return f"<Slots of {len(self._by_address)} addresses, evicted={self.evicted} refused={self.refused}>"

    def take(
        self, address: str, settings: CarryingSettings, *, taken: int, evict: Callable[[], bool] | None = None
    ) -> bool:
        """Give an address one more slot, `taken` being those in use; False, and counted, where it gets none.

        `evict` frees a slot, or says that it cannot; it is asked only for a client that is within its own limit.
        """
        address = address.removeprefix(_MAPPED)
        held = self._by_address.get(address, 0)
        if 0 < settings.client_connection_limit <= held:
            self.refused[CLIENT_CONNECTION_LIMIT] += 1
            return False
        if 0 < settings.connection_limit <= taken:
            if evict is None or not evict():
                self.refused[CONNECTION_LIMIT] += 1
                return False
            self.evicted += 1
            held = self._by_address.get(address, 0)  # the one that was closed may have been its own
        self._by_address[address] = held + 1
        return True

    def give_back(self, address: str) -> None:
        """Take back a slot that an address had."""
        address = address.removeprefix(_MAPPED)
        left = self._by_address[address] - 1
        if left:
            self._by_address[address] = left
        else:
            del self._by_address[address]

    def count_refused(self, name: str) -> MetricFamily:
        """Build the metric of clients that were refused, by the setting that bounds them."""
        return MetricFamily(
            name=name,
            type="counter",
            help="Clients closed at once, by the setting that bounds them.",
            labels=("reason",),
            samples=[((reason,), float(count)) for reason, count in self.refused.items()],
        )
