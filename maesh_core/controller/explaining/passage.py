"""Asks the middlewares of a request, in their order, whether they let it pass; the first refusal decides.

Takes the keys of a chain, its section and the question; returns what the middlewares say, in lines for a person. What
the builders of plugins raise is contained: such a middleware is undecided.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from maesh_core.controller.explaining.limits import describe_middlewares, describe_settings
from maesh_core.model.configuration import Middleware, Section
from maesh_core.model.messages import PodReport
from maesh_core.plugin_system.interfaces import Verdict


class QuestionHeaders:
    """The header fields of a request in question. Implements `interfaces.ReadableHeaders`."""

    def __init__(self, headers: Sequence[tuple[str, str]]) -> None:
        self._headers = [(name.lower().encode(), value.encode()) for name, value in headers]

    def get(self, name: bytes) -> bytes | None:
        """Return the first value of a field, or None."""
        return next(iter(self.get_all(name)), None)

    def get_all(self, name: bytes) -> list[bytes]:
        """Return all values of a field."""
        return [value for known, value in self._headers if known == name.lower()]

    def items(self) -> list[tuple[bytes, bytes]]:
        """Return all fields, with names in lower case."""
        return list(self._headers)

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return iter(self._headers)


class Question(NamedTuple):
    """A request from one address of a client. Implements `interfaces.Question`."""

    client_address: str
    client_account: str
    client_pods: tuple[PodReport, ...]
    destination: str
    traffic_type: str
    is_http: bool
    method: bytes
    target: bytes
    client_headers: QuestionHeaders
    problems: Mapping[str, str]
    topology: Mapping[str, Any]


class Passage(NamedTuple):
    """What the middlewares of a request say.

    `verdict` is the first refusal, or the admission by all that decide. `undecided` are the kinds of those that do not
    explain themselves, `reasons` the lines of those that admit, and `limits` the descriptions of all, `KIND: LINE`.
    """

    verdict: Verdict
    undecided: Sequence[str] = ()
    reasons: Sequence[str] = ()
    limits: Sequence[str] = ()


def explain_passage(
    keys: Sequence[str], section: Section, question: Question, *, builders: Mapping[str, Any], steps: list[str]
) -> Passage:
    """Ask each middleware of a chain, outermost first; add the lines of those that admit to `steps`.

    `builders` are keyed by the kind of middleware.
    """
    servers: tuple[tuple[str, int], ...] | None = None
    undecided: list[str] = []
    reasons: dict[str, Sequence[str]] = {}
    refusal: Verdict | None = None
    would_deny: list[str] = []
    for key in keys:
        middleware = section.middlewares[key]
        kind, builder = middleware.kind, builders.get(middleware.kind)
        verdict, failure = _ask(builder, middleware.settings, question)
        if verdict is None:
            undecided.append(kind)
            steps += _describe_undecided(middleware, builder, failure)
            continue
        if not verdict.is_admitted:
            refusal = verdict
            break
        reasons[key] = verdict.reasons
        denials = [f"{kind}: would deny: {text}" for text in verdict.would_deny]
        would_deny += denials
        steps += [*(f"{kind}: {text}" for text in verdict.reasons), *denials]
        servers = verdict.servers if verdict.servers is not None else servers
    limits = tuple(dict.fromkeys(describe_middlewares(keys, section.middlewares, builders, reasons)))
    if refusal is not None:
        return Passage(refusal, limits=limits)
    lines = [f"{section.middlewares[key].kind}: {text}" for key, texts in reasons.items() for text in texts]
    admission = Verdict(is_admitted=True, servers=servers, would_deny=tuple(would_deny))
    return Passage(admission, undecided, lines, limits)


def _describe_undecided(middleware: Middleware, builder: Any, failure: str) -> list[str]:
    """Describe a middleware without a verdict: by its settings, or else by the reason for which it has none."""
    described = describe_settings(builder, middleware.settings)
    texts = described or [f"this middleware {failure}; it may still refuse the request"]
    return [f"{middleware.kind}: {text}" for text in texts]


def _ask(builder: Any, settings: Mapping[str, Any], question: Question) -> tuple[Verdict | None, str]:
    """Ask a middleware's builder; without a verdict, return why there is none."""
    explain = getattr(builder, "explain", None)
    if explain is None:
        return None, "does not explain itself"
    try:
        return explain(settings, question), ""
    except Exception as error:  # a plugin's code may raise anything: the rest is still explained
        return None, f"cannot explain itself ({type(error).__name__}: {' '.join(str(error).split())})"
