"""The base class of middlewares: every method that the mesh calls on one, its types, and the order of calls.

The docstring of `Middleware` is the one place that says in which order middlewares are called; chains are built by the
two tuples below it. Declares, and does nothing. It is not compiled: plugins derive from it.
"""

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Final, TypeVar

from maesh_core.plugin_system.interfaces import Connection, Exchange, Response

_MethodT = TypeVar("_MethodT")

# --- middleware ------------------------------------------------------------------------------------------------------


class Middleware:
    """What sees the traffic of one service: derive from it, and override the methods that you need.

    A method that is not overridden, or is None, is never called and costs nothing. A middleware that overrides none is
    refused, as is one with any other name that begins with `on_`: its routes are closed, since a misspelt guard would
    let everybody in. Only `on_request` may be async. A route is closed too where a middleware has no method that is
    called on it: none for requests on an HTTP route, no `on_connect` on one for connections or sessions. An object that
    is not derived from this class, and has its methods, is a middleware too; only type checkers refuse it.

    Order of calls: `on_request`, `on_attempt`, `on_connect` and `is_still_allowed` are called outermost first,
    `on_attempt_failed`, `on_response` and `on_finished` innermost first. Where `on_request` or `on_attempt` returns a
    Response, and where `on_connect` or `is_still_allowed` refuses, the middlewares further inside are not called, and
    `on_response` is not called for that Response. `on_finished` is called once for every middleware that the request
    reached: where `on_request` answered or raised, these are that middleware and those outside it, otherwise all. A
    method that raises ends the exchange with the `failure_response` of its middleware, so that a request nobody could
    judge goes nowhere. The other middlewares are then not called for the same event, except for `on_finished`, which is
    called for all of them. What was raised is counted, and logged once.
    """

    __slots__ = ()

    kept_bytes: int = 0
    """How much of a request's body to keep, so that another attempt can send it again; 0: none is kept."""

    failure_response: Response | None = None
    """What a client gets when a method raises; None: 500."""

    def on_request(self, exchange: Exchange) -> Response | float | Awaitable[Response | float | None] | None:
        """See a request that is routed, before anything is sent.

        Return a Response to answer at once, seconds to wait before going on, or None. It may be `async`; only routes
        with an async middleware pay for a task.
        """
        return None

    def on_attempt(self, exchange: Exchange) -> Response | None:
        """See that another attempt is about to begin, after any pause; never called for the first.

        Return a Response to answer instead, or None.
        """
        return None

    def on_attempt_failed(self, exchange: Exchange, error: Exception) -> bool | float | None:
        """See an attempt that brought no response head; the error's class in `maesh_core.plugin` says why.

        Return True to ask for another attempt, or seconds to ask for one after that pause; False forbids any, whatever
        others ask for. With None the client gets the error if nobody else asks.
        """
        return None

    def on_response(self, exchange: Exchange) -> bool | float | None:
        """See a response head of which nothing was sent to the client; return as for `on_attempt_failed`."""
        return None

    def on_finished(self, exchange: Exchange) -> None:
        """See the end of the exchange, however it came."""

    def on_connect(self, connection: Connection) -> bool | None:
        """See a TCP connection or UDP session that begins, before a server is chosen.

        Return False to refuse it: TCP is closed, the datagram dropped. One that raises refuses it too, and so does
        anything but True, False and None.
        """
        return None

    def is_still_allowed(self, connection: Connection) -> bool:
        """Say whether a TCP connection, UDP session, tunnel or HTTP exchange may go on, after a change of its route.

        Anything but True ends it, and so does raising; an exchange whose response has not begun is answered 403. Where
        nothing of this middleware is left on the route, nor anything in its place, what it had let in is ended as well:
        nobody can judge it any more. `connection.exchange` is the request of an exchange or tunnel, and its
        `destination` is where such a request would go now if its branch is gone. Asked once for each change, never for
        each request.
        """
        return True


CALLED_OUTERMOST_FIRST: Final = ("on_request", "on_attempt", "on_connect", "is_still_allowed")
CALLED_INNERMOST_FIRST: Final = ("on_attempt_failed", "on_response", "on_finished")
"""The methods of `Middleware`, by the order in which those of a chain are called."""

if TYPE_CHECKING:
    from typing_extensions import override as override
else:

    def override(method: _MethodT) -> _MethodT:
        """Mark a method that overrides one of its class's base: type checkers then refuse a name that no base has.

        It is `typing.override`, which Python 3.11 does not have.
        """
        return method
