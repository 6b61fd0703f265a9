"""One request and its response: routes it, attempts it at servers, and responds.

Takes a request head and body bytes from the client (client_stream.py). It has one attempt at a time (attempt.py), which
reports the response. It does not know which protocol version either side uses, and never accesses a socket. If its
route has middlewares, or its client offers an upgrade, it also has a `run` (middleware_run.py). Every exchange ends in
`finish`, where it is counted. A request that cannot be parsed never becomes one.
"""

import math
from typing import Final, final

from maesh_core.errors import (
    ClientProtocolError,
    DeliveryDeniedError,
    ExchangeError,
    UpstreamProtocolError,
    UpstreamTimeoutError,
)
from maesh_core.model.traffic_record import CLIENT_LEFT, PROXY_ENDED
from maesh_core.plugin_system.interfaces import Response
from maesh_core.proxy.http.answers import (
    BODY_TIMEOUT,
    BODY_TOO_LARGE,
    CLOSED_LATE,
    NO_SERVER,
    NOT_READ,
    OTHER_PROTOCOL,
    RESPONSE_TIMEOUT,
    UNKNOWN_HOST,
    UNSENDABLE,
    build_answer,
    measure_body,
    show_reason,
)
from maesh_core.proxy.http.exchanges.attempt import Attempt
from maesh_core.proxy.http.exchanges.client_stream import ClientStream
from maesh_core.proxy.http.exchanges.request_body import ReceivingExchange
from maesh_core.proxy.http.grpc import (
    DEADLINE_EXCEEDED,
    NOT_KNOWN_YET,
    UNAVAILABLE,
    find_answer_status,
    find_reset_status,
    read_head_status,
    read_status,
    render_trailers,
)
from maesh_core.proxy.http.http2.frames import CANCEL, INTERNAL_ERROR
from maesh_core.proxy.http.messages.headers import Headers
from maesh_core.proxy.http.messages.request_head import STREAMED, RequestHead
from maesh_core.proxy.http.messages.response_head import ResponseHead
from maesh_core.proxy.http.routes import Route
from maesh_core.proxy.http.upstreams.connection_pool import HttpServer
from maesh_core.proxy.http.upstreams.upstream_stream import CHANGED, RENDERED, UNCHANGED, Forwarding, UpstreamStream

CLIENT_GONE: Final = 499
"""The status counted when the client leaves before the response (as in nginx and Traefik)."""


@final
class Exchange(ReceivingExchange):
    """A request in progress. Attributes are grouped: request, route, attempt, response."""

    __slots__ = ("_is_whole", "changed_headers", "is_head_request")

    def __init__(self, client: ClientStream, head: RequestHead, route: Route | None, started_at: float) -> None:
        super().__init__(client, head, route, started_at)
        self.changed_headers: Headers | None = None
        self.is_head_request = head.method == b"HEAD"
        self._is_whole = False

    def __repr__(self) -> str:
        return (
            f"<Exchange {self.head.method!r} {self.head.host!r} status={self.status}"
            f" request_left={self.request_left} finished={self.is_finished} {self.attempt!r}>"
        )

    # --- the request

    def start(self, body: bytes = b"") -> None:
        """Begin. `body` holds body bytes that arrived with the head, possibly only part of the body.

        If the mesh answers at once, `body` is not used and `request_left` does not change.
        """
        route = self.route
        if route is None:
            self.client.environment.count_refusal(404)
            self.answer(UNKNOWN_HOST)
            return
        if self.request_left and self.is_too_large(
            self.head.declared_length if self.request_left == STREAMED else self.request_left
        ):
            self.answer(build_answer(ClientProtocolError(BODY_TOO_LARGE, 413)))
            return
        balancer = route.balancer
        if balancer is None:
            self.answer(route.closed)
            return
        if body:
            self.receive_body(body)
        if self.run is not None:
            self.run.begin(route, balancer)
            return
        server = balancer.pick()
        if route.division is not None:
            self.part = route.division.picked
        if server is None:  # as in attempt_at(), but without a call for most requests
            self.answer(route.find_answer())
        else:
            self.attempts = 1
            self.attempt = Attempt(self, server)
            if self.head.grpc_timeout_s:
                self.attempt.limit(0.0, self.head.grpc_timeout_s, self.started_at)
            self.attempt.begin()

    # --- attempts

    def attempt_at(
        self, server: HttpServer | None, timeout_s: float = 0.0, total_s: float = 0.0, now: float = 0.0
    ) -> None:
        """Attempt the request at a server; answer 503 if there is none.

        `timeout_s` is the time-out until the response's head, `total_s` until its end; 0 means none. `now` is the time,
        if it was just read; otherwise 0.
        """
        if self.route is not None and self.route.division is not None:
            self.part = self.route.division.picked
        if server is None:
            self.answer(NO_SERVER if self.route is None else self.route.find_answer())
            return
        self.attempts += 1
        if self.attempts > 1 or self.run is not None:
            self.attempted_at = now if now else self.client.environment.clock_time()
        if self.attempts > 1:
            self.responded_at = 0.0
            if self.route is not None:
                self.route.counters.retries += 1
        attempt = self.attempt = Attempt(self, server)
        if self.run is not None and self.run.request_flow is not None:
            self.run.prepare(attempt)
        if timeout_s or self.head.grpc_timeout_s:
            attempt.limit(timeout_s, self.head.grpc_timeout_s, self.attempted_at)
        if 0 < total_s < math.inf:
            attempt.limit_total(total_s, self.attempted_at)
        attempt.begin()

    def on_stored_sent(self) -> None:
        """Let the rest of the body follow, if it goes through middlewares."""
        if self.run is not None and self.run.request_flow is not None:
            self.run.request_flow.pump()

    def pick_other(self, passed_over: tuple[HttpServer, ...]) -> HttpServer | None:
        """Pick another server than these, which could not be tried; None if there is no other."""
        route = self.route
        if route is None or route.balancer is None:
            return None
        run, balancer = self.run, route.balancer
        other = balancer.pick(passed_over) if run is None else run.pick_other(balancer, passed_over)
        if other is None or other in passed_over:
            return None
        if route.division is not None:  # parts may share servers, so it can be another part's
            self.part = route.division.picked
        return other

    @property
    def was_sent(self) -> bool:
        """Whether the latest attempt has sent the request to its server, which may have processed it."""
        return self.attempt is not None and self.attempt.was_sent

    def on_attempt_failed(self, error: ExchangeError) -> None:
        """Answer with the error, or let the middlewares decide; no part of a response was sent yet."""
        if self.attempt is not None and self.attempt.response is None:
            self.attempt.server.counters.failures += 1
        self.abandon_attempt()
        if self.run is not None and not isinstance(error, DeliveryDeniedError):
            self.run.on_attempt_failed(error)
        else:
            self.answer(build_answer(error))

    def abandon_attempt(self, code: int = CANCEL) -> None:
        """Close the attempt's connection, or cancel the connect."""
        if self.attempt is not None:
            self.attempt.abandon(code)

    # --- the response

    def on_informational(self, response: ResponseHead) -> None:
        """Forward a 1xx (RFC 9110 section 15.2). After a 100, wait for the client's body."""
        if response.status == 100 and self.is_expecting:
            self.is_expecting = False
            self.client.wait_for_exchange()
        self.client.write_informational(response)

    def on_switching(self, upstream: UpstreamStream, response: ResponseHead, rest: bytes) -> None:
        """Handle a 101. Raises UpstreamProtocolError, also if the client did not offer an upgrade."""
        if self.run is None:
            raise UpstreamProtocolError(OTHER_PROTOCOL)
        self.run.on_switching(upstream, response, rest)

    def on_response_head(self, response: ResponseHead, *, is_whole: bool) -> Forwarding:
        """Handle the head of the final response, and decide how the response is forwarded."""
        self.status = response.status
        self.count_response(response.status)
        if self.head.is_grpc:
            self.grpc_status = read_head_status(response)
        if self.run is not None and (forwarding := self.run.judge_response(response, is_whole=is_whole)) is not None:
            return forwarding
        if not is_whole or self.request_left or not self.client.can_forward_unchanged(response):
            return RENDERED
        self.has_started_response = self._is_whole = True
        self.sent_bytes = response.left
        return UNCHANGED if self.run is None or self.run.changed_response is None else CHANGED

    def start_response(self, response: ResponseHead, body: bytes) -> None:
        """Send the head and the first bytes of the body; after this the response can no longer be replaced."""
        flow = self.run.response_flow if self.run is not None else None
        if flow is not None:
            flow.send_head()
            flow.receive(body)
            return
        self.has_started_response = True
        self.client.start_response(response, self.run.changed_response if self.run is not None else None, body)

    def on_trailers(self, trailers: bytes) -> None:
        """Read the status of a call that ends with these trailer lines, unless its head had it."""
        if self.grpc_status == NOT_KNOWN_YET:
            self.grpc_status = read_status(trailers)

    def on_client_reads(self) -> None:
        """Let what waits of the response follow, if it goes through middlewares."""
        if self.run is not None and self.run.response_flow is not None:
            self.run.response_flow.pump()

    def on_response_complete(self) -> None:
        """End successfully: the whole response was written to the client's transport, or waits for middlewares."""
        run = self.run
        if run is not None and run.response_flow is not None:
            run.response_flow.end(run.response_flow.trailers)
        else:  # as complete() does, without a call for most requests
            self.finish(self.status)
            self.client.on_exchange_finished()

    def complete(self) -> None:
        """End successfully: nothing of the response is left to be sent."""
        self.finish(self.status)
        self.client.on_exchange_finished()

    def on_lost(self, response: ResponseHead) -> None:
        """End because the upstream was lost in the middle of the response.

        A gRPC call ends with trailers that say so: clients take a reset for CANCELLED or INTERNAL.
        """
        if self._is_withheld:
            self.answer(build_answer(UpstreamProtocolError(CLOSED_LATE)))
        elif self.head.is_grpc and response.declared_length < 0:
            self.client.end_content(render_trailers(UNAVAILABLE, CLOSED_LATE))
            self.note_cut(CLOSED_LATE, is_failure=True)
            self.complete()
        else:
            self.abort()

    @property
    def _is_withheld(self) -> bool:
        """Whether the server's response has begun, but middlewares hold its head back."""
        flow = self.run.response_flow if self.run is not None else None
        return flow is not None and flow.is_withheld and not self.is_finished

    def on_late(self, reason: str) -> None:
        """End because the response was not complete in time.

        A response that has begun is cut. A gRPC call then ends with trailers that say so, as in `on_lost`.
        """
        response = self.attempt.response if self.attempt is not None else None
        is_failure = not self.client.is_write_paused
        if not self.has_started_response:
            error = UpstreamTimeoutError(reason)
            if self.attempt is not None and response is None:
                self.on_attempt_failed(error)
            else:
                self.answer(build_answer(error))
        elif self.head.is_grpc and response is not None and response.declared_length < 0:
            self.abandon_attempt()
            self.grpc_status = DEADLINE_EXCEEDED
            self.client.end_content(render_trailers(DEADLINE_EXCEEDED, reason))
            self.note_cut(reason, is_failure=is_failure)
            self.complete()
        else:
            self.abort(reason=reason, is_failure=is_failure)

    def answer(self, response: Response) -> None:
        """End with a response of the mesh."""
        self.abandon_attempt()
        if self.is_finished:
            return
        self.is_answered = True
        self.status = response.status
        try:
            self.client.write_answer(response)
        except (ValueError, TypeError, AttributeError):
            response = UNSENDABLE
            self.status = response.status
            self.client.write_answer(response)
        if self.head.is_grpc:
            self.grpc_status = find_answer_status(response)
        self.has_started_response = True
        self.sent_bytes = 0 if self.head.is_grpc else measure_body(response, is_head_request=self.is_head_request)
        self.reason = reason = show_reason(response)
        if self.route is not None:
            self.route.counters.count_answer(response.status, reason)
        self.finish(self.status)
        self.client.on_exchange_finished()

    # --- aborted exchanges

    def fail(self, error: ExchangeError) -> None:
        """End because of the client's protocol error: answer, or reset the connection if a response has started."""
        if self.has_started_response:
            self.abort(reason=str(error), is_failure=False)
        else:
            self.client.stop_reuse()
            self.answer(build_answer(error))

    def abort(self, code: int = INTERNAL_ERROR, reason: str = CLOSED_LATE, *, is_failure: bool = True) -> None:
        """Abort in the middle of a response, so that the client cannot mistake it for a complete one.

        `is_failure` means that the server is the cause, and not the client.
        """
        if self._is_withheld:
            self.answer(build_answer(UpstreamProtocolError(CLOSED_LATE)))
            return
        self.abandon_attempt()
        if not self.is_finished:
            self.note_cut(reason, is_failure=is_failure)
        if self.head.is_grpc:
            self.grpc_status = find_reset_status(code)
        self.finish(self.status)
        self.client.abort(code)

    def on_timeout(self) -> None:
        """End or retry after a wait that took too long."""
        if self.run is not None and self.run.on_timeout():
            return
        if self.has_started_response:
            is_failure = not self.client.is_write_paused
            self.abort(reason=RESPONSE_TIMEOUT if is_failure else NOT_READ, is_failure=is_failure)
        elif (
            self.request_left and not self.is_expecting and self.upstream is not None and not self.client.is_read_paused
        ):
            self.fail(ClientProtocolError(BODY_TIMEOUT, 408))
        else:
            self.on_attempt_failed(UpstreamTimeoutError(RESPONSE_TIMEOUT))

    def on_client_gone(self, code: int = CANCEL) -> None:
        """End without an answer, because the client has left; `code` is the error code of its RST_STREAM."""
        self.abandon_attempt(code)
        if not self.is_finished:
            self.grpc_status = NOT_KNOWN_YET
        if not self.reason:
            self.reason = PROXY_ENDED if self.client.environment.is_ending else CLIENT_LEFT
        self.finish(CLIENT_GONE)

    def finish(self, status: int) -> None:
        """Count the ended exchange, and release its attempt and its run."""
        if self.is_finished:
            return
        self.is_finished = True
        self.pending_body = None
        route, client = self.route, self.client
        environment = client.environment
        now = self.responded_at if self._is_whole else environment.clock_time()
        if self.head.is_grpc:
            self.end_call(status)
        seconds = now - self.started_at
        client.caller.entrypoint_counter.count(status, seconds)
        if route is not None:
            self.count_end(route, status, seconds)
        run = self.run
        if run is not None:
            run.on_finished()
        if environment.observers.is_active:
            self.report_end(status, now)
        if run is not None:
            self.run = None
        self.attempt = None

    def find_last_server(self) -> HttpServer | None:
        """Return the server of the last attempt, also while another one is being prepared."""
        if self.attempt is None and self.run is not None and self.run.tried:
            return self.run.tried[-1]
        return super().find_last_server()
