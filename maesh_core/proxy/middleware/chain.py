"""The middlewares of one route as tuples of bound methods, built when the route is compiled.

Takes middlewares and returns a chain. Methods that a middleware does not override are not included and cost nothing.
The chain runs nothing itself: the exchange calls its methods in the order that `maesh_core.plugin.Middleware` promises.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, final

from maesh_core.model.skip_count import SkipCount
from maesh_core.plugin_system.field_changes import FieldChanges
from maesh_core.plugin_system.interfaces import BackendChoice, ClientHead, Connection, Exchange
from maesh_core.plugin_system.middleware import CALLED_INNERMOST_FIRST, Middleware

AttemptFailed = Callable[[Exchange, Exception], bool | float | None]
OnAttempt = Callable[[Exchange], object]
OnBody = Callable[[Exchange], object]
OnResponse = Callable[[Exchange], bool | float | None]
Choose = Callable[[ClientHead, Sequence[BackendChoice]], object]
Skip = Callable[[ClientHead], object]
Judge = Callable[[Connection], bool | None]
"""A method that decides about access: `on_connect` or `is_still_allowed`."""
ChangeJudge = Callable[[Exchange, ClientHead], object]
CopyJudge = Callable[[Exchange, str, ClientHead], object]


@final
class ChangeChooser:
    """A `choose_request_changes` or `choose_response_changes`; `choose` asks `method`.

    Raises TypeError for anything but changes or None.
    """

    __slots__ = ("method",)

    def __init__(self, method: Callable[[ClientHead], object]) -> None:
        self.method = method

    def __repr__(self) -> str:
        return f"<ChangeChooser {self.method!r}>"

    def choose(self, head: ClientHead) -> FieldChanges | None:
        """Return the changes for requests with this head, or for their responses."""
        changes = self.method(head)
        if changes is not None and not isinstance(changes, FieldChanges):
            raise TypeError(f"expected FieldChanges or None, not {type(changes).__name__}")
        return changes


@final
class UnlessChosen:
    """An `on_response`, `call`, that does nothing for a response of the backend that `chooser` has chosen."""

    __slots__ = ("call", "chooser")

    def __init__(self, call: OnResponse, chooser: Choose) -> None:
        self.call = call
        self.chooser = chooser

    def __repr__(self) -> str:
        return f"<UnlessChosen {self.call!r}>"


class Step(NamedTuple):
    """A call of the middleware at `depth`: a method, a ChangeChooser or an UnlessChosen; the outermost has depth 1."""

    call: Any
    depth: int


class Chain:
    """The methods that a route calls, each tuple in the order of its calls.

    `is_still_allowed` is called for exchanges and tunnels in progress when the route changes. `on_finished` is called
    if the request reached its middleware. `judge_changed` and `judge_copy` have one method for each middleware that
    guards access; without its own, it denies. `judge_headers` are the `judge_changed` of those that read changed header
    fields. `skips_request` and `skip_count` are those of the only middleware, if it has them: the requests that they
    skip pass without the chain. `depth` is the number of middlewares, `kept_bytes` the number of
    bytes of a request's body to store for another attempt. A chain is never modified after it was compiled. It is a
    class and not a NamedTuple, because compiled code reads the attributes of a class without a lookup.
    """

    __slots__ = (
        "choose_backend",
        "depth",
        "is_still_allowed",
        "judge_changed",
        "judge_copy",
        "judge_headers",
        "keeps_choice",
        "kept_bytes",
        "on_attempt",
        "on_attempt_failed",
        "on_finished",
        "on_request",
        "on_request_body",
        "on_response",
        "on_response_body",
        "skip_count",
        "skips_request",
    )

    def __init__(
        self,
        *,
        choose_backend: tuple[Choose, ...] = (),
        on_request: tuple[Step, ...] = (),
        on_attempt: tuple[OnAttempt, ...] = (),
        on_attempt_failed: tuple[AttemptFailed, ...] = (),
        on_request_body: tuple[OnBody, ...] = (),
        on_response: tuple[Any, ...] = (),
        on_response_body: tuple[OnBody, ...] = (),
        on_finished: tuple[Step, ...] = (),
        is_still_allowed: tuple[Judge, ...] = (),
        judge_changed: tuple[ChangeJudge, ...] = (),
        judge_copy: tuple[CopyJudge, ...] = (),
        judge_headers: tuple[ChangeJudge, ...] = (),
        skips_request: Skip | None = None,
        skip_count: SkipCount | None = None,
        depth: int = 0,
        kept_bytes: int = 0,
        keeps_choice: bool = False,
    ) -> None:
        self.choose_backend = choose_backend
        self.on_request = on_request
        self.on_attempt = on_attempt
        self.on_attempt_failed = on_attempt_failed
        self.on_request_body = on_request_body
        self.on_response = on_response
        self.on_response_body = on_response_body
        self.on_finished = on_finished
        self.is_still_allowed = is_still_allowed
        self.judge_changed = judge_changed
        self.judge_copy = judge_copy
        self.judge_headers = judge_headers
        self.skips_request = skips_request
        self.skip_count = skip_count
        self.depth = depth
        self.kept_bytes = kept_bytes
        self.keeps_choice = keeps_choice

    def __repr__(self) -> str:
        return f"<Chain of {self.depth} middlewares>"


EMPTY_CHAIN: Final = Chain()


def compile_chain(middlewares: Sequence[object], guards: Sequence[object] = ()) -> Chain:
    """Compile middlewares, given outermost first. `guards` are those of them that control access."""
    judges = _list_calls(middlewares, "is_still_allowed")
    choosers = {step.depth: step.call for step in _list_steps(middlewares, "choose_backend")}
    readers = [guard for guard in guards if getattr(guard, "reads_changed_headers", False) is not False]
    is_skippable = len(middlewares) == 1 and not judges and not choosers
    skips_request = find_method(middlewares[0], "skips_request") if is_skippable else None
    skip_count = getattr(middlewares[0], "skip_count", None) if is_skippable else None
    return Chain(
        choose_backend=tuple(choosers.values()),
        on_request=_list_request_steps(middlewares),
        on_attempt=_list_calls(middlewares, "on_attempt"),
        on_attempt_failed=_list_calls(middlewares, "on_attempt_failed"),
        on_request_body=_list_calls(middlewares, "on_request_body"),
        on_response=_list_response_calls(middlewares, choosers),
        on_response_body=_list_calls(middlewares, "on_response_body"),
        on_finished=_list_steps(middlewares, "on_finished"),
        is_still_allowed=judges,
        judge_changed=tuple(_find_judge(guard, "judge_changed", _deny_change) for guard in guards),
        judge_copy=tuple(_find_judge(guard, "judge_copy", _deny_copy) for guard in guards),
        judge_headers=tuple(_find_judge(guard, "judge_changed", _deny_change) for guard in readers),
        skips_request=skips_request,
        skip_count=skip_count if skips_request is not None and isinstance(skip_count, SkipCount) else None,
        depth=len(middlewares),
        keeps_choice=all(_keeps_choice(middlewares[depth - 1]) for depth in choosers),
        kept_bytes=max((getattr(middleware, "kept_bytes", None) or 0 for middleware in middlewares), default=0),
    )


def collect_judges(middlewares: Sequence[object], name: str) -> tuple[Judge, ...]:
    """List the methods of a name, of middlewares given outermost first."""
    return _list_calls(middlewares, name)


def find_method(middleware: object, name: str) -> Any:
    """Find a method that a middleware defines itself; None if it inherits that of `Middleware`, or has none."""
    method = getattr(middleware, name, None)
    return None if getattr(method, "__func__", None) is getattr(Middleware, name) else method


def _find_judge(guard: object, name: str, denial: Any) -> Any:
    """Find a guard's method; one that it does not have denies."""
    method = find_method(guard, name)
    return denial if method is None else method


def _deny_change(exchange: Exchange, sent: ClientHead) -> object:
    return False


def _deny_copy(exchange: Exchange, service: str, sent: ClientHead) -> object:
    return False


def read_verdict(verdict: object, *, default: bool) -> bool:
    """Read an access verdict: True, False, or None for the default.

    Raises TypeError for anything else: a truthy object, such as a Response or a coroutine, must not allow access.
    """
    if verdict is None:
        return default
    if isinstance(verdict, bool):
        return verdict
    if inspect.iscoroutine(verdict):
        verdict.close()
    raise TypeError(f"expected True, False or None, not {type(verdict).__name__}")


def _list_steps(middlewares: Sequence[object], name: str) -> tuple[Step, ...]:
    found = [(find_method(middleware, name), depth) for depth, middleware in enumerate(middlewares, start=1)]
    if name in CALLED_INNERMOST_FIRST:
        found.reverse()
    return tuple(Step(call, depth) for call, depth in found if call is not None)


def _list_request_steps(middlewares: Sequence[object]) -> tuple[Step, ...]:
    """List `choose_request_changes` and `on_request` of each middleware, outermost first."""
    changes = [
        Step(ChangeChooser(step.call), step.depth) for step in _list_steps(middlewares, "choose_request_changes")
    ]
    return tuple(sorted([*changes, *_list_steps(middlewares, "on_request")], key=_read_depth))


def _list_response_calls(middlewares: Sequence[object], choosers: Mapping[int, Any]) -> tuple[Any, ...]:
    """List `choose_response_changes` and `on_response` of each middleware, innermost first."""
    found = [Step(ChangeChooser(step.call), step.depth) for step in _list_steps(middlewares, "choose_response_changes")]
    for call, depth in _list_steps(middlewares, "on_response"):
        is_kept = depth in choosers and _keeps_choice(middlewares[depth - 1])
        found.append(Step(UnlessChosen(call, choosers[depth]) if is_kept else call, depth))
    return tuple(step.call for step in sorted(found, key=_read_depth, reverse=True))


def _read_depth(step: Step) -> int:
    return step.depth


def _keeps_choice(middleware: object) -> bool:
    return getattr(middleware, "keeps_choice", False) is True


def _list_calls(middlewares: Sequence[object], name: str) -> tuple[Any, ...]:
    return tuple(step.call for step in _list_steps(middlewares, name))
