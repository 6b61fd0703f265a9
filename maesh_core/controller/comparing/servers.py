"""Finds the servers of a service that a client may reach, if access control allows only some of them.

Takes explanations of one request, with and without access control. A service may have pods of several service accounts,
and a rule may allow a client to reach those of one account.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from maesh_core.controller.comparing.asking import Answers, ClientGroup, PortQuestions, is_admitted, name_destination
from maesh_core.controller.explaining.explanation import Explanation
from maesh_core.controller.mesh_states.state import MeshState

Reached = frozenset[tuple[str, str]]
"""Services, `namespace/name:port`, each with the account of some of its servers."""


class ServerDifference(NamedTuple):
    """An example that both states let in, and the accounts of servers that only one of them lets it reach."""

    answers: Answers
    servers: tuple[str, ...]


def is_limited(questions: PortQuestions) -> bool:
    """Whether a state limits clients to some of the servers."""
    return any(view.is_limited for view in (questions.before, questions.after) if view is not None)


def compare_servers(
    questions: PortQuestions, group: ClientGroup
) -> tuple[list[ServerDifference], list[ServerDifference]]:
    """Compare the servers that a group reaches: what is opened, and what is closed."""
    opened: list[ServerDifference] = []
    closed: list[ServerDifference] = []
    for answers, free in zip(questions.explain(group), questions.explain(group, is_open=True), strict=True):
        if not (is_admitted(answers[1]) and is_admitted(answers[2])):
            continue
        before, after = _list_reached(questions.old, answers[1]), _list_reached(questions.new, answers[2])
        refused_before = _list_reached(questions.old, free[1]) - before
        refused_after = _list_reached(questions.new, free[2]) - after
        for found, lost in ((opened, refused_before & after), (closed, before & refused_after)):
            if lost:
                found.append(ServerDifference(answers, tuple(sorted({account for _, account in lost}))))
    return opened, closed


def _list_reached(state: MeshState, found: Explanation | None) -> Reached:
    return frozenset(_list_accounts(state, found)) if found is not None else frozenset()


def _list_accounts(state: MeshState, found: Explanation) -> Iterator[tuple[str, str]]:
    for destination in found.destinations:
        name = name_destination(destination, found)
        yield from ((name, account) for account in _find_accounts(state, destination.servers) if account)


def _find_accounts(state: MeshState, servers: Iterable[str]) -> set[str]:
    return {state.find_account(each.rpartition(":")[0].strip("[]")) for each in servers}
