"""Finds weights that cannot be met: of backends without servers, of 0 alone, or so small that few processes meet them.

Pure.
"""

from collections.abc import Iterator, Sequence
from math import gcd
from typing import Literal, NamedTuple

from maesh_core.model.topology import BackendNode

CYCLE_LIMIT = 10_000
"""A share counts as tiny if it is met once in more requests: each worker of each proxy counts on its own."""


class WeightProblem(NamedTuple):
    """`idle`: a backend without servers has weight. `none`: nothing has weight. `tiny`: a share is very small."""

    kind: Literal["idle", "none", "tiny"]
    text: str


def find_weight_problems(backends: Sequence[BackendNode], *, has_answer: bool = False) -> Iterator[WeightProblem]:
    """Find what is wrong with the weights of one rule's or one split's backends.

    `has_answer`: requests are answered without a backend. A backend that is answered with an error has an error of its
    own already.
    """
    weighted = [backend for backend in backends if backend.weight > 0]
    if not weighted:
        if not has_answer:
            yield WeightProblem("none", "no backend has a weight above 0")
        return
    for backend in weighted:
        if backend.port is not None and not backend.servers:
            reason = backend.port.unserved or "it has no pod"
            yield WeightProblem(
                "idle", f"backend {backend.service} has weight {backend.weight}, but no ready server: {reason}"
            )
    factor = gcd(*(backend.weight for backend in weighted))
    total = sum(backend.weight for backend in weighted)
    smallest = min(weighted, key=lambda backend: backend.weight)
    if total // smallest.weight > CYCLE_LIMIT and total // factor > CYCLE_LIMIT:
        yield WeightProblem(
            "tiny",
            f"backend {smallest.service} gets {smallest.weight // factor} of {total // factor} requests, and each"
            " worker of each proxy counts on its own",
        )
