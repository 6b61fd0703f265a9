"""The middlewares of one route as tuples of bound methods, built once when the route is compiled.

A method that a middleware lacks is in no tuple and costs nothing. Runs nothing itself: the exchange calls what stands
here, in the order that `hookspecs.Middleware` promises.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from maesh_core.hookspecs import Exchange

AttemptFailed = Callable[[Exchange, Exception], bool | None]
OnResponse = Callable[[Exchange], bool | None]
OnFinished = Callable[[Exchange], None]


class RequestStep(NamedTuple):
    """One `on_request`; `depth` counts from the outermost middleware, 1."""

    call: Callable[[Exchange], Any]
    is_async: bool
    depth: int


class FinishStep(NamedTuple):
    """One `on_finished`, called where the request got as deep as its middleware."""

    call: OnFinished
    depth: int


class Chain(NamedTuple):
    """What a route calls, and when. `on_request` is outermost first, the others innermost first."""

    on_request: tuple[RequestStep, ...]
    on_attempt_failed: tuple[AttemptFailed, ...]
    on_response: tuple[OnResponse, ...]
    on_finished: tuple[FinishStep, ...]
    depth: int
    """How many middlewares there are."""


def compile_chain(middlewares: Sequence[object]) -> Chain | None:
    """Compile middlewares, given outermost first; None when there are none."""
    if not middlewares:
        return None
    innermost_first = list(enumerate(middlewares, start=1))[::-1]
    return Chain(
        on_request=tuple(
            RequestStep(call, inspect.iscoroutinefunction(call), depth)
            for depth, middleware in enumerate(middlewares, start=1)
            if (call := getattr(middleware, "on_request", None)) is not None
        ),
        on_attempt_failed=_collect(innermost_first, "on_attempt_failed"),
        on_response=_collect(innermost_first, "on_response"),
        on_finished=tuple(
            FinishStep(call, depth)
            for depth, middleware in innermost_first
            if (call := getattr(middleware, "on_finished", None)) is not None
        ),
        depth=len(middlewares),
    )


def _collect(middlewares: Sequence[tuple[int, object]], name: str) -> tuple[Any, ...]:
    return tuple(call for _, middleware in middlewares if (call := getattr(middleware, name, None)) is not None)
