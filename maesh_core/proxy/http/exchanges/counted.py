"""What is counted about one exchange: sizes, times, attempts, and why the mesh answered or ended it.

The base of an exchange (exchange.py), which calls it when something happens. At the end, it adds the numbers to the
counters of the route and of the client's calls, and builds the record for those who observe traffic.
"""

from typing import Final

from maesh_core.model.traffic_record import HTTP, REFUSED, TUNNEL, TrafficRecord
from maesh_core.proxy.http.exchanges.attempt import FAILED_STATUS, Attempt, AttemptUser
from maesh_core.proxy.http.exchanges.client_stream import ClientStream
from maesh_core.proxy.http.grpc import NOT_KNOWN_YET
from maesh_core.proxy.http.messages.request_head import ClientHeaders, RequestHead
from maesh_core.proxy.http.routing_table import Route
from maesh_core.proxy.http.upstreams.connection_pool import HttpServer

_SWITCHING: Final = 101


class CountedExchange(AttemptUser):
    """The counted part of an exchange. Times are of the event loop, sizes are bytes of bodies without framing."""

    __slots__ = (
        "attempt",
        "attempted_at",
        "attempts",
        "client",
        "grpc_status",
        "head",
        "part",
        "reason",
        "received_bytes",
        "responded_at",
        "route",
        "sent_bytes",
        "started_at",
    )

    def __init__(self, client: ClientStream, head: RequestHead, route: Route | None, started_at: float) -> None:
        self.client = client
        self.head = head
        self.route = route
        self.started_at = started_at
        self.attempt: Attempt | None = None
        self.attempts = 0
        self.attempted_at = started_at
        self.responded_at = 0.0
        """When the latest attempt's response head arrived; 0 before."""
        self.reason = ""
        """Why the mesh answered or ended it; empty for an ordinary response."""
        self.part = ""
        """The service that was picked, if the route divides its requests among services."""
        self.grpc_status = NOT_KNOWN_YET
        self.received_bytes = 0
        self.sent_bytes = 0

    @property
    def protocol(self) -> str:
        """The protocol of the client's connection."""
        if self.client.caller.is_http2:
            return "HTTP/2"
        return "HTTP/1.0" if self.head.is_http_1_0 else "HTTP/1.1"

    def find_last_server(self) -> HttpServer | None:
        """Return the server of the last attempt; None if there was no attempt."""
        return self.attempt.server if self.attempt is not None else None

    def count_ejection(self) -> None:
        """Count that a server of the route was set aside."""
        if self.route is not None:
            self.route.counters.ejections += 1

    def count_response(self) -> None:
        """Count the head of an attempt's response, and how long it took."""
        self.responded_at = self.client.environment.clock_time()
        if self.route is not None:
            self.route.counters.count_response(self.responded_at - self.attempted_at)

    def count_content(self, size: int) -> None:
        """Count bytes of the response's body that are forwarded, without framing."""
        self.sent_bytes += size

    def note_cut(self, reason: str) -> None:
        """Count that the response ended before it was complete."""
        self.reason = reason
        if self.route is not None:
            self.route.counters.count_cut(reason)

    def count_end(self, route: Route, status: int, now: float) -> None:
        """Add this exchange to the counters of its route, and to those of its client's calls."""
        counters, caller = route.counters, self.client.caller
        counters.count(status, now - self.started_at, is_http2=caller.is_http2)
        counters.attempts += self.attempts
        counters.received_bytes += self.received_bytes
        counters.sent_bytes += self.sent_bytes
        if route.is_split:
            counters.count_branch(self.part or route.destination, status)
        counter = caller.counter
        if counter is None or counter.service != route.label:
            counter = self.client.environment.callers.switch(caller, route.label)
        counter.requests += 1
        if status >= FAILED_STATUS:
            counter.failures += 1

    def report_end(self, status: int, now: float) -> None:
        """Pass a record to those who observe traffic."""
        client, head, route, server = self.client, self.head, self.route, self.find_last_server()
        environment = client.environment
        environment.observers.observe(
            TrafficRecord(
                REFUSED if route is None else TUNNEL if status == _SWITCHING else HTTP,
                started_at=self.started_at + environment.wall_offset_s,
                duration_s=now - self.started_at,
                client=client.address,
                entrypoint=client.entrypoint,
                protocol=self.protocol,
                service=route.label if route is not None else "",
                destination=self.part or (route.destination or route.label if route is not None else ""),
                server=server.label if server is not None else "",
                attempts=self.attempts,
                status=status,
                grpc_status=self.grpc_status if head.is_grpc else None,
                reason=self.reason,
                received_bytes=self.received_bytes,
                sent_bytes=self.sent_bytes,
                upstream_s=self.responded_at - self.attempted_at if self.responded_at else None,
                method=head.method,
                host=head.host,
                target=head.target,
                headers=ClientHeaders(head),
            )
        )
