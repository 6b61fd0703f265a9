"""Records of datagrams that begin no session: of clients that are denied, without a server, or without a route.

Takes what the handler knows of such a datagram; passes a record to the observers of traffic. A client needs no session
for these datagrams, so a flood of them is cheap to send. The number of records in a second is therefore limited, and
the other datagrams are counted.
"""

import time
from typing import Final, final

from maesh_core.plugin import REFUSED, UDP, Node, build_record, cut_port_key

RECORDS_PER_S: Final = 200
"""Limit of records of each worker, of all clients: as many as a tap shows."""
NO_SERVER: Final = "no server could get the datagram"


@final
class Refusals:
    """Reports refused datagrams. `unrecorded` counts those above the limit."""

    __slots__ = ("_left", "_node", "unrecorded")

    def __init__(self, node: Node) -> None:
        self._node = node
        self._left = RECORDS_PER_S
        self.unrecorded = 0

    def __repr__(self) -> str:
        return f"<Refusals {self._left} left, {self.unrecorded} unrecorded>"

    def report(
        self, client: str, entrypoint: int, reason: str, *, size: int, service: str = "", destination: str = ""
    ) -> None:
        """Report one datagram of `size` bytes, if anybody observes traffic; no service: nothing was routed."""
        if not self._node.is_observed:
            return
        if self._left <= 0:
            self.unrecorded += 1
            return
        self._left -= 1
        self._node.observe(
            build_record(
                UDP if service else REFUSED,
                started_at=time.time(),
                duration_s=0.0,
                client=client,
                entrypoint=entrypoint,
                protocol="UDP",
                service=cut_port_key(service),
                destination=destination,
                reason=reason,
                received_bytes=size,
            )
        )

    def refill(self) -> None:
        """Allow the records of the next second."""
        self._left = RECORDS_PER_S
