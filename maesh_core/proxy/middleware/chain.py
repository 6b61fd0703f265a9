"""The middlewares of one route as tuples of bound methods, built once when the route is compiled.

A method that a middleware does not override is in no tuple and costs nothing. Runs nothing itself: the exchange calls
what stands here, in the order that `maesh_core.plugin.Middleware` promises.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from maesh_core.plugin_system.interfaces import Connection, Exchange
from maesh_core.plugin_system.middleware import CALLED_INNERMOST_FIRST, Middleware

AttemptFailed = Callable[[Exchange, Exception], bool | float | None]
OnAttempt = Callable[[Exchange], object]
Judge = Callable[[Connection], bool | None]
OnResponse = Callable[[Exchange], bool | float | None]


class Step(NamedTuple):
    """A call of a middleware that stands at `depth`, counted from the outermost, 1."""

    call: Callable[[Exchange], object]
    depth: int


class Chain:
    """What a route calls, each tuple in the order of its calls.

    `is_still_allowed` is asked about exchanges and tunnels when the route changes. `on_finished` is called where the
    request got as deep as its middleware. `depth` is how many middlewares there are, `kept_bytes` how much of
    a request's body is kept for another attempt. Nothing changes a chain after it is compiled. It is a class and no
    NamedTuple, because compiled code reads the attributes of a class without a lookup.
    """

    __slots__ = (
        "depth",
        "is_still_allowed",
        "kept_bytes",
        "on_attempt",
        "on_attempt_failed",
        "on_finished",
        "on_request",
        "on_response",
    )

    def __init__(
        self,
        *,
        on_request: tuple[Step, ...] = (),
        on_attempt: tuple[OnAttempt, ...] = (),
        on_attempt_failed: tuple[AttemptFailed, ...] = (),
        on_response: tuple[OnResponse, ...] = (),
        on_finished: tuple[Step, ...] = (),
        is_still_allowed: tuple[Judge, ...] = (),
        depth: int = 0,
        kept_bytes: int = 0,
    ) -> None:
        self.on_request = on_request
        self.on_attempt = on_attempt
        self.on_attempt_failed = on_attempt_failed
        self.on_response = on_response
        self.on_finished = on_finished
        self.is_still_allowed = is_still_allowed
        self.depth = depth
        self.kept_bytes = kept_bytes

    def __repr__(self) -> str:
        return f"<Chain of {self.depth} middlewares>"


EMPTY_CHAIN: Final = Chain()


def compile_chain(middlewares: Sequence[object]) -> Chain:
    """Compile middlewares, given outermost first."""
    return Chain(
        on_request=_list_steps(middlewares, "on_request"),
        on_attempt=_list_calls(middlewares, "on_attempt"),
        on_attempt_failed=_list_calls(middlewares, "on_attempt_failed"),
        on_response=_list_calls(middlewares, "on_response"),
        on_finished=_list_steps(middlewares, "on_finished"),
        is_still_allowed=_list_calls(middlewares, "is_still_allowed"),
        depth=len(middlewares),
        kept_bytes=max((getattr(middleware, "kept_bytes", None) or 0 for middleware in middlewares), default=0),
    )


def collect_judges(middlewares: Sequence[object], name: str) -> tuple[Judge, ...]:
    """List the methods of a name, of middlewares given outermost first."""
    return _list_calls(middlewares, name)


def find_method(middleware: object, name: str) -> Any:
    """Find a method that a middleware has of its own; None where it has the default of `Middleware`, or none at all."""
    method = getattr(middleware, name, None)
    return None if getattr(method, "__func__", None) is getattr(Middleware, name) else method


def read_verdict(verdict: object, *, default: bool) -> bool:
    """Read what a method said about access: True, False, or None for the default.

    Raises TypeError for anything else: a truthy object, such as a Response or a coroutine, must not let anybody in.
    """
    if verdict is None:
        return default
    if isinstance(verdict, bool):
        return verdict
    if inspect.iscoroutine(verdict):
        verdict.close()
    raise TypeError(f"neither True, False nor None, but {type(verdict).__name__}")


def _list_steps(middlewares: Sequence[object], name: str) -> tuple[Step, ...]:
    found = [(find_method(middleware, name), depth) for depth, middleware in enumerate(middlewares, start=1)]
    if name in CALLED_INNERMOST_FIRST:
        found.reverse()
    return tuple(Step(call, depth) for call, depth in found if call is not None)


def _list_calls(middlewares: Sequence[object], name: str) -> tuple[Any, ...]:
    return tuple(step.call for step in _list_steps(middlewares, name))
