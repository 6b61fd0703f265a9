"""The base class of middlewares: every method that the mesh calls on one, its types, and the order of calls.

The docstring of `Middleware` is the one place that describes the order in which middlewares are called; the two tuples
below the class define it for chains. Declares, and does nothing. It is not compiled, because plugins derive from it.
"""

from collections.abc import Awaitable, Collection, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

from maesh_core.model.skip_count import SkipCount
from maesh_core.plugin_system.field_changes import FieldChanges
from maesh_core.plugin_system.interfaces import (
    BackendChoice,
    BodyUse,
    ClientHead,
    Connection,
    Exchange,
    Response,
)
from maesh_core.plugin_system.transports import Delivery

_MethodT = TypeVar("_MethodT")

# --- middleware ------------------------------------------------------------------------------------------------------


class Middleware:
    """The base of all middlewares, which process the traffic of one service. Override the methods that you need.

    A method that is not overridden, or is None, is never called and costs nothing. A middleware that overrides no
    method is refused, and so is one with another name that begins with `on_`: its routes are closed, because a misspelt
    access check would never be called. Only `on_request` may be async. A route is also closed if none of a middleware's
    methods is called on it: an HTTP route needs a method for requests, a route for connections or sessions needs
    `on_connect`. An object that has these methods without deriving from this class works too; only type checkers refuse
    it.

    Order of calls: `choose_backend`, `choose_request_changes`, `on_request`, `on_request_body`, `on_attempt`,
    `on_connect`, `is_still_allowed`, `judge_delivery`, `judge_changed` and `judge_copy` are called outermost first,
    `on_attempt_failed`, `choose_response_changes`, `on_response`, `on_response_body` and `on_finished` innermost first.
    If `on_request` or `on_attempt` returns a Response, or `on_connect` or `is_still_allowed` refuses, the middlewares
    further inside are not called, and `on_response` is not called for that Response. `on_finished` is called once for
    every middleware that the request reached: if `on_request` answered or raised, these are that middleware and those
    outside it, otherwise all. If a method raises, the exchange ends with the `failure_response` of its middleware, so a
    request that could not be checked is not sent. The other middlewares are then not called for the same event, except
    for `on_finished`, which is called for all of them. The exception is counted, and logged once.
    """

    __slots__ = ()

    kept_bytes: int = 0
    """How many bytes of a request's body to keep, so that another attempt can send them again; 0 keeps none."""

    failure_response: Response | None = None
    """The response to the client if a method raises; None means status 500."""

    reads_changed_headers: bool = False
    """Whether `judge_changed` also judges requests of which other middlewares have changed header fields."""

    keeps_choice: bool = False
    """Whether `choose_backend` depends on nothing but the head and the backends, and `on_response` does nothing for a
    response of the backend that it has chosen; then neither is called each time."""

    skip_count: SkipCount | None = None
    """Counts requests that are skipped without a call of `skips_request`; it must be the same object at all times."""

    def on_request(self, exchange: Exchange) -> Response | float | Awaitable[Response | float | None] | None:
        """Called when a request has been routed, before anything is sent.

        Return a Response to answer at once, a number of seconds to wait before the request continues, or None. It may
        be `async`; only routes with such a middleware need a task for each request.
        """
        return None

    def choose_backend(self, head: ClientHead, backends: Sequence[BackendChoice]) -> BackendChoice | None:
        """Return the backend that a request should go to, or None for no preference; pure.

        Called before `on_request`, when the rule of the request is known. The first answer that is not None decides;
        the request goes to that server only if it is usable and allowed, whatever the weights are. `backends` is the
        same object until the route changes. With `keeps_choice`, the answer is kept for a head that a client repeats.
        If it raises, it has no preference; the exception is counted, and logged once.
        """
        return None

    def choose_request_changes(self, head: ClientHead) -> FieldChanges | None:
        """Return changes of the header fields of the request to send, or None; pure.

        Called where `on_request` of this middleware is, just before it. The answer is kept for a head that a client
        repeats, so it must depend on nothing but the head. Returning the same object for many requests saves time.
        """
        return None

    def choose_response_changes(self, head: ClientHead) -> FieldChanges | None:
        """Return changes of the header fields of the response to a request, or None; pure.

        Called where `on_response` of this middleware is, just before it; otherwise as `choose_request_changes`.
        """
        return None

    def on_request_body(self, exchange: Exchange) -> BodyUse | None:
        """Return how to use the request's body, or None; called after all `on_request`, before the first attempt.

        Not called for upgrades, nor for requests without a body.
        """
        return None

    def on_attempt(self, exchange: Exchange) -> Response | None:
        """Called before each further attempt, after its pause, but not before the first attempt.

        Return a Response to answer instead, or None.
        """
        return None

    def on_attempt_failed(self, exchange: Exchange, error: Exception) -> bool | float | None:
        """Called when an attempt ended without a response head; the class of `error` is the reason.

        Return True to request another attempt, or a number of seconds to request one after that pause. False forbids
        further attempts, even if other middlewares request one. None requests nothing: unless another middleware
        requests an attempt, the client gets the error. The classes of errors are in `maesh_core.plugin`.
        """
        return None

    def on_response(self, exchange: Exchange) -> bool | float | None:
        """Called when a response head has arrived, before it is sent; return values as in `on_attempt_failed`."""
        return None

    def on_response_body(self, exchange: Exchange) -> BodyUse | None:
        """Return how to use the response's body, or None; called when the response will be forwarded.

        Not called for upgrades, nor for responses without a body.
        """
        return None

    def on_finished(self, exchange: Exchange) -> None:
        """Called when the exchange has ended, for whatever reason."""

    def on_connect(self, connection: Connection) -> bool | None:
        """Called when a TCP connection or UDP session begins, before a server is chosen.

        Return True or None to admit it. Any other value refuses it, and so does raising: a TCP connection is closed, a
        datagram dropped.
        """
        return None

    def is_still_allowed(self, connection: Connection) -> bool:
        """Return whether a TCP connection, UDP session, tunnel or HTTP exchange may continue after its route changed.

        Any value but True ends it, and so does raising; an exchange whose response has not begun is answered with 403.
        If the route no longer exists or leads to another service, everything that it admitted ends without this call,
        because nothing can decide about it any more. `connection.exchange` is the request of an exchange or tunnel; if
        its branch no longer exists, its `destination` is where such a request would be routed now. Called once for each
        change, never for each request.
        """
        return True

    def skips_request(self, head: ClientHead) -> bool:
        """Return True to let a request pass as if its route had no middleware; override it to save time.

        Called before `on_request`, and only if this is the only middleware of the route, if it does not override
        `is_still_allowed`, and if the client offers no upgrade; so `on_request` must work without it, too. If it
        returns True, no other method is called for the request. If it raises, `on_request` is called as usual; the
        exception is counted, and logged once. While `skip_count` is not zero, it is not called for requests without a
        trace context.
        """
        return False

    def judge_delivery(self, delivery: Delivery) -> bool | None:
        """Decide on the server's node whether the proxy of another node may open a connection for a client.

        Called only for middlewares of plugins of access control, and only with a transport; one that does not override
        it denies. True allows the connection for every request, False denies it. None means that it depends on the
        request: a TCP connection is then denied, and the requests of an HTTP connection go through the route's guards
        on this node, too (`on_request`). Any other value denies, and so does raising. Asked again for open connections
        after each change of the configuration.
        """
        return None

    def judge_changed(self, exchange: Exchange, sent: ClientHead) -> bool:
        """Decide whether an admitted request may be sent with another path or Host than the client's.

        Called before an attempt if other middlewares have set `new_target` or `new_host`, and with
        `reads_changed_headers` also if they have used `request_headers`; `sent` is the head that is
        sent. It may narrow `exchange.allowed_servers`. Called only for middlewares of plugins of access control; one
        that does not override it denies. Any value but True denies, and so does raising: the answer is 403.
        """
        return False

    def judge_copy(self, exchange: Exchange, service: str, sent: ClientHead) -> bool | Collection[tuple[str, int]]:
        """Decide whether a copy of an admitted request may be sent to a side service of the route.

        `sent` is the head of the copy. Return True, or the only servers, by address and port, that may get it. Called
        only for middlewares of plugins of access control; one that does not override it denies. Any other value denies,
        and so does raising.
        """
        return False


CALLED_OUTERMOST_FIRST: Final = (
    "choose_backend",
    "choose_request_changes",
    "on_request",
    "on_request_body",
    "on_attempt",
    "on_connect",
    "is_still_allowed",
    "judge_delivery",
    "judge_changed",
    "judge_copy",
)
CALLED_INNERMOST_FIRST: Final = (
    "on_attempt_failed",
    "choose_response_changes",
    "on_response",
    "on_response_body",
    "on_finished",
)
"""The methods of `Middleware`, by the order in which those of a chain are called."""

if TYPE_CHECKING:
    from typing_extensions import override as override
else:

    def override(method: _MethodT) -> _MethodT:
        """Mark a method that overrides one of a base class: type checkers then refuse a name that no base class has.

        It is `typing.override`, which Python 3.11 does not have.
        """
        return method
