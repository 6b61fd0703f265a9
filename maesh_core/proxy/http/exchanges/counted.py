"""What is counted about one exchange: sizes, times, attempts, and why the mesh answered or ended it.

The base of an exchange (exchange.py), which calls it when something happens. At the end, it adds the numbers to the
counters of the route and of the client's calls, and builds the record for those who observe traffic.
"""

from typing import Final

from maesh_core.model.grpc_statuses import GRPC_SERVER_ERRORS
from maesh_core.model.traffic_record import (
    HTTP,
    REFUSED,
    TUNNEL,
    RecordOutcome,
    RecordPlace,
    TrafficRecord,
    find_outcome,
    find_place,
)
from maesh_core.proxy.callers import CallCounter
from maesh_core.proxy.http.exchanges.attempt import Attempt, AttemptUser
from maesh_core.proxy.http.exchanges.client_stream import ClientStream
from maesh_core.proxy.http.grpc import NOT_KNOWN_YET, find_ended_status
from maesh_core.proxy.http.messages.request_head import RequestHead
from maesh_core.proxy.http.routes import Route
from maesh_core.proxy.http.server_counters import FAILED_STATUS
from maesh_core.proxy.http.upstreams.connection_pool import HttpServer
from maesh_core.proxy.http.upstreams.upstream_stream import UpstreamStream
from maesh_core.proxy.transport.path_counts import ConnectionPath

_SWITCHING: Final = 101
_BAD_REQUEST: Final = 400
_DENIED: Final = 403


class CountedExchange(AttemptUser):
    """The counted part of an exchange. Times are of the event loop, sizes are bytes of bodies without framing."""

    __slots__ = (
        "attempt",
        "attempted_at",
        "attempts",
        "client",
        "grpc_status",
        "has_failed",
        "head",
        "is_answered",
        "is_excused",
        "part",
        "reason",
        "received_bytes",
        "responded_at",
        "rewritten",
        "route",
        "sent_bytes",
        "started_at",
        "status",
        "would_deny",
    )

    def __init__(self, client: ClientStream, head: RequestHead, route: Route | None, started_at: float) -> None:
        self.client = client
        self.head = head
        self.rewritten: RequestHead | None = None
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
        self.has_failed = False
        """Whether it counts as failed whatever its status is: its response was cut, or a gRPC status says so."""
        self.is_excused = False
        """Whether its client or a change of access has cut its response: its gRPC status does not count as failed."""
        self.is_answered = False
        """Whether its response is the mesh's own."""
        self.grpc_status = NOT_KNOWN_YET
        self.status = 0
        """The status of the response, once it has one."""
        self.received_bytes = 0
        self.sent_bytes = 0
        self.would_deny = ""
        """Why access control would deny it if it were not in audit mode."""

    @property
    def protocol(self) -> str:
        """The protocol of the client's connection."""
        if self.client.caller.is_http2:
            return "HTTP/2"
        return "HTTP/1.0" if self.head.is_http_1_0 else "HTTP/1.1"

    @property
    def upstream(self) -> UpstreamStream | None:
        """The connection of the attempt; None until it has one."""
        return self.attempt.upstream if self.attempt is not None else None

    def is_too_large(self, size_bytes: int) -> bool:
        """Whether a body of this size exceeds the limit of request bodies."""
        limit = self.client.environment.settings.body_limit
        return bool(limit) and size_bytes > limit

    def find_last_server(self) -> HttpServer | None:
        """Return the server of the last attempt; None if there was no attempt."""
        return self.attempt.server if self.attempt is not None else None

    def find_destination(self) -> str:
        """Return the key of the service that gets the request: that of the route, of a branch, or of a part."""
        return self.part or (self.route.destination if self.route is not None else "")

    def count_ejection(self) -> None:
        """Count that a server of the route was set aside."""
        if self.route is not None:
            self.route.counters.ejections += 1

    def count_response(self, status: int) -> None:
        """Count the head of an attempt's response, and how long it took."""
        self.responded_at = self.client.environment.clock_time()
        seconds = self.responded_at - self.attempted_at
        if self.route is not None:
            self.route.counters.upstream_durations.add(seconds)
        if self.attempt is not None:
            self.attempt.server.counters.count_response(status, seconds)

    def count_content(self, size: int) -> None:
        """Count bytes of the response's body that are forwarded, without framing."""
        self.sent_bytes += size

    def note_cut(self, reason: str, *, is_failure: bool) -> None:
        """Count that the response ended before it was complete. It is no failure if the client is the cause."""
        self.reason = reason
        self.has_failed = is_failure
        self.is_excused = not is_failure
        if self.route is not None:
            self.route.counters.count_cut(reason)

    def count_end(self, route: Route, status: int, seconds: float) -> None:
        """Add this exchange to the counters of its route and its server, and to those of its client's calls."""
        counters, caller = route.counters, self.client.caller
        counters.count(status, seconds, is_http2=caller.is_http2)
        counters.attempts += self.attempts
        counters.received_bytes += self.received_bytes
        counters.sent_bytes += self.sent_bytes
        if route.is_split:
            counters.count_branch(self.part or route.destination, status, seconds)
        rule = route.rule
        if rule is not None:
            rule.count(status, seconds)
        counter = caller.counter
        if counter is None or counter.service != route.label:
            counter = self.client.environment.callers.switch(caller, route.label)
        counter.durations.add(seconds)
        if status == _DENIED and self.is_answered:
            counter.denied += 1
        attempt = self.attempt
        if attempt is not None:
            if attempt.path is not None:
                self._count_path(attempt.path, route, counter)
            if attempt.response is not None and not self.is_answered:
                attempt.server.counters.received_bytes += self.received_bytes
                attempt.server.counters.sent_bytes += self.sent_bytes
        if status >= FAILED_STATUS or self.has_failed:
            counters.count_failure(self.part or route.destination if route.is_split else "")
            counter.failures += 1
            if rule is not None:
                rule.failures += 1
            self._count_server_failure()

    def _count_path(self, path: ConnectionPath, route: Route, counter: CallCounter) -> None:
        """Count whether the request was encrypted; the node that sends counts those that it has sent on to this one."""
        if not route.is_delivered:
            counted = path.find_counter(self.client.environment.paths.counts, route.label)
            counted.requests += 1
            counted.bytes += self.received_bytes + self.sent_bytes
            counter.count_path(path.kind)

    def end_call(self, status: int) -> None:
        """Determine the status of a gRPC call that has ended, and count it.

        It has not failed if the client is the cause, or if the mesh's answer says so: one of 400 to 499.
        """
        if self.grpc_status == NOT_KNOWN_YET:
            self.grpc_status = find_ended_status(status)
        if self.grpc_status in GRPC_SERVER_ERRORS and not self.is_excused:
            self.has_failed = self.has_failed or not (self.reason and _BAD_REQUEST <= status < FAILED_STATUS)
        if self.route is not None:
            self.route.counters.count_call(self.grpc_status)

    def _count_server_failure(self) -> None:
        """Count for its server that a forwarded response has failed although its status is below 500."""
        attempt = self.attempt
        response = attempt.response if attempt is not None else None
        if attempt is None or response is None or not self.has_failed:
            return
        if self.status == response.status < FAILED_STATUS:
            attempt.server.counters.failed_responses += 1

    def report_end(self, status: int, now: float) -> None:
        """Pass a record to those who observe traffic."""
        client, head, route = self.client, self.head, self.route
        if route is not None and route.is_delivered and not self.reason:
            return  # the node that sends reports it
        environment = client.environment
        environment.observers.observe(
            TrafficRecord(
                self._find_place(),
                self._find_outcome(status),
                self.started_at + environment.wall_offset_s,
                now - self.started_at,
                self.responded_at - self.attempted_at if self.responded_at else None,
                client.address,
                head.target,
                self.received_bytes,
                self.sent_bytes,
                head,
            )
        )

    def _find_place(self) -> RecordPlace:
        """Find the place of the record: mostly that of the server's last one."""
        route, server = self.route, self.find_last_server()
        path = self.attempt.path if self.attempt is not None else None
        service = destination = ""
        if route is not None:
            service = route.label
            destination = self.part or route.destination or service
        place = find_place(
            server.place if server is not None else None,
            service,
            destination,
            server.label if server is not None else "",
            "" if path is None else path.kind,
            "" if path is None else path.node,
            self.head.host,
            self.client.entrypoint,
        )
        if server is not None:
            server.place = place
        return place

    def _find_outcome(self, status: int) -> RecordOutcome:
        """Find the outcome of the record: mostly the last one."""
        head, environment = self.head, self.client.environment
        kind = REFUSED if self.route is None else TUNNEL if status == _SWITCHING else HTTP
        outcome = environment.last_outcome = find_outcome(
            environment.last_outcome,
            kind,
            self.protocol,
            head.method,
            self.attempts,
            status,
            self.grpc_status if head.is_grpc else None,
            self.reason,
            self.would_deny,
        )
        return outcome
