"""Compares where the requests of a port go, and what its middlewares do, for the clients of each namespace.

The comparison ignores access control, which access.py compares: it also covers requests that access control denies.
"""

from collections.abc import Callable

from maesh_core.controller.comparing.asking import Answers, ClientGroup, PortQuestions, name_destination, show_result
from maesh_core.controller.comparing.changes import LimitChange, RouteChange
from maesh_core.controller.explaining.explanation import Explanation


def compare_routes(questions: PortQuestions) -> list[RouteChange]:
    """Compare the destinations of all examples; equal changes are one entry."""
    return [
        RouteChange(
            service="/".join(questions.name.service),
            port=questions.name.port,
            example=questions.show_example(group.clients[0], found[0][0]),
            old=show_result(found[0][1]),
            new=show_result(found[0][2]),
            requests=questions.show_requests([each[0] for each in found[1:]]),
            is_every=is_every,
        )
        for group, found, is_every in _collect(questions, _describe_route)
    ]


def compare_limits(questions: PortQuestions) -> list[LimitChange]:
    """Compare the lines about middlewares of all examples; equal changes are one entry."""
    return [
        LimitChange(
            service="/".join(questions.name.service),
            port=questions.name.port,
            example=questions.show_example(group.clients[0], found[0][0]),
            removed=_list_only(found[0][1], found[0][2]),
            added=_list_only(found[0][2], found[0][1]),
            requests=questions.show_requests([each[0] for each in found[1:]]),
            is_every=is_every,
        )
        for group, found, is_every in _collect(questions, lambda found: found.limits)
    ]


def _collect(
    questions: PortQuestions, describe: Callable[[Explanation], object]
) -> list[tuple[ClientGroup, list[Answers], bool]]:
    """Group the examples that differ by their pair of descriptions; skip a namespace that repeats a group."""
    known: set[object] = set()
    collected = []
    for group in questions.list_route_groups():
        found = questions.explain(group, is_open=True)
        pairs: dict[object, list[Answers]] = {}
        for each in found:
            old, new = (None if state is None else describe(state) for state in each[1:])
            if old != new:
                pairs.setdefault((old, new), []).append(each)
        for pair, differing in pairs.items():
            identity = (pair, tuple(each[0] for each in differing))
            if identity not in known:
                known.add(identity)
                collected.append((group, differing, len(differing) == len(found)))
    return collected


def _describe_route(found: Explanation) -> object:
    destinations = tuple(
        (name_destination(each, found), each.share, each.scheme, each.encryption, bool(each.servers), each.status)
        for each in found.destinations
    )
    reasons = () if found.outcome == "allowed" else found.decided_by
    return found.outcome, found.status, destinations, reasons


def _list_only(found: Explanation | None, other: Explanation | None) -> tuple[str, ...]:
    known = set(() if other is None else other.limits)
    return tuple(each for each in (() if found is None else found.limits) if each not in known)
