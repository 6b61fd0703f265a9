"""Compares who may call a port: for each group of clients, the examples that only one state lets in.

A request is let in if access control admits it, whether a server is ready for it or not.
"""

from collections.abc import Iterator
from typing import Literal

from maesh_core.controller.comparing.asking import ClientGroup, PortQuestions, show_result
from maesh_core.controller.comparing.changes import AccessChange
from maesh_core.controller.comparing.requests import ExampleRequest
from maesh_core.controller.explaining.explanation import Explanation

ADMITTED = frozenset({"allowed", "answered", "unserved"})

_Found = tuple[ExampleRequest, Explanation | None, Explanation | None]


def compare_access(questions: PortQuestions) -> list[AccessChange]:
    """Compare a port; nothing changes where no state has access control."""
    if not questions.is_guarded:
        return []
    merged: dict[tuple[object, ...], tuple[ClientGroup, list[_Found], bool]] = {}
    clients: dict[tuple[object, ...], list[str]] = {}
    for group in questions.list_groups():
        found = questions.explain(group)
        for change, differing in (("opens", list(_select(found, 0))), ("closes", list(_select(found, 1)))):
            if differing:
                _, before, after = differing[0]
                key = (change, tuple(each[0] for each in differing), _classify(before), _classify(after))
                merged.setdefault(key, (group, differing, len(differing) == len(found)))
                clients.setdefault(key, []).extend(group.clients)
    return [_build_change(questions, str(key[0]), clients[key], *merged[key]) for key in merged]


def is_admitted(found: Explanation | None) -> bool:
    """Whether a state lets a request in."""
    return found is not None and found.outcome in ADMITTED


def _select(found: list[_Found], closed: int) -> Iterator[_Found]:
    """Select the examples that only the other state lets in: `closed` is 0 for the old state, 1 for the new one."""
    for each in found:
        _, before, after = each
        closed_state, open_state = (after, before) if closed else (before, after)
        if not is_admitted(closed_state) and is_admitted(open_state):
            yield each


def _classify(found: Explanation | None) -> str:
    return "" if found is None else found.outcome


def _build_change(
    questions: PortQuestions,
    change: str,
    clients: list[str],
    group: ClientGroup,
    differing: list[_Found],
    is_every: bool,  # noqa: FBT001 - unpacked
) -> AccessChange:
    request, before, after = differing[0]
    direction: Literal["opens", "closes"] = "opens" if change == "opens" else "closes"
    return AccessChange(
        change=direction,
        level="warning" if direction == "opens" else "info",
        service="/".join(questions.name.service),
        port=questions.name.port,
        clients=tuple(sorted(clients)),
        example=questions.show_example(group.clients[0], request),
        old=show_result(before),
        new=show_result(after),
        requests=questions.show_requests([each[0] for each in differing[1:]]),
        is_every=is_every,
    )
