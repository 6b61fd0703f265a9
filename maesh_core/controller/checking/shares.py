"""Finds weights that cannot be met: of backends without servers, of 0 alone, or so small that few processes meet them.

Pure.
"""

from collections.abc import Iterator, Sequence
from math import gcd

from maesh_core.controller.checking.core_kinds import IDLE_BACKEND, NO_WEIGHT, TINY_SHARE
from maesh_core.model.topology import BackendNode

CYCLE_LIMIT = 10_000
"""A share counts as tiny if it is met once in more requests: each worker of each proxy counts on its own."""


def find_weight_problems(backends: Sequence[BackendNode], *, has_answer: bool = False) -> Iterator[tuple[str, str]]:
    """Find what is wrong with the weights of the backends of one rule or split: codes and texts.

    `has_answer`: requests are answered without a backend. A backend that is answered with an error has an error of its
    own already.
    """
    weighted = [backend for backend in backends if backend.weight > 0]
    if not weighted:
        if not has_answer:
            yield NO_WEIGHT.code, "no backend has a weight above 0"
        return
    for backend in weighted:
        if backend.port is not None and not backend.servers:
            reason = backend.port.unserved or "it has no pod"
            text = f"backend {backend.service} has weight {backend.weight}, but no ready server: {reason}"
            yield IDLE_BACKEND.code, text
    yield from _find_tiny_share(weighted)


def _find_tiny_share(weighted: Sequence[BackendNode]) -> Iterator[tuple[str, str]]:
    total = sum(backend.weight for backend in weighted)
    smallest = min(weighted, key=lambda backend: backend.weight)
    if total > smallest.weight * CYCLE_LIMIT:
        factor = gcd(*(backend.weight for backend in weighted))
        shares = f"{smallest.weight // factor} of {total // factor} requests"
        yield (
            TINY_SHARE.code,
            f"backend {smallest.service} gets {shares}, and each worker of each proxy counts on its own",
        )
