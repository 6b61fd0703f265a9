"""Compares who may call a port: for each group of clients, the examples that only one state admits.

Only access control counts here, not whether a server is ready. If a state lets clients reach only some of the servers,
the accounts of these servers are compared, too (servers.py).
"""

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from maesh_core.controller.comparing.asking import Answers, ClientGroup, PortQuestions, is_admitted, show_result
from maesh_core.controller.comparing.changes import AccessChange
from maesh_core.controller.comparing.servers import compare_servers, is_limited
from maesh_core.controller.explaining.explanation import Explanation

Direction = Literal["opens", "closes", "would-deny", "would-allow"]


class _Change(NamedTuple):
    """Examples that differ in the same way for a group of clients."""

    direction: Direction
    group: ClientGroup
    differing: tuple[Answers, ...]
    is_every: bool
    servers: tuple[str, ...] = ()

    @property
    def identity(self) -> object:
        """Equal for groups whose changes are shown as one."""
        outcomes = tuple("" if found is None else found.outcome for found in self.differing[0][1:])
        return self.direction, tuple(each[0] for each in self.differing), outcomes, self.servers


def compare_access(questions: PortQuestions) -> list[AccessChange]:
    """Compare a port; nothing changes where no state has access control."""
    if not questions.is_guarded:
        return []
    changes: dict[object, _Change] = {}
    clients: dict[object, list[str]] = {}
    for group in questions.list_groups():
        for change in _find_changes(questions, group):
            changes.setdefault(change.identity, change)
            clients.setdefault(change.identity, []).extend(group.clients)
    return [_build_change(questions, changes[key], clients[key]) for key in changes]


def _find_changes(questions: PortQuestions, group: ClientGroup) -> Iterator[_Change]:
    """Find the changes of one group: requests that are let in, and servers that those requests reach."""
    answers = questions.explain(group)
    directions: tuple[tuple[Direction, Callable[[Answers], bool]], ...] = (
        ("opens", lambda each: _is_let_in_otherwise(each, closed=0)),
        ("closes", lambda each: _is_let_in_otherwise(each, closed=1)),
        ("would-deny", lambda each: _list_would_deny(each) == [False, True]),
        ("would-allow", lambda each: _list_would_deny(each) == [True, False]),
    )
    for direction, differs in directions:
        differing = tuple(filter(differs, answers))
        if differing:
            yield _Change(direction, group, differing, len(differing) == len(answers))
    if not is_limited(questions):
        return
    opened, closed = compare_servers(questions, group)
    for direction, found in ((directions[0][0], opened), (directions[1][0], closed)):
        for servers in dict.fromkeys(each.servers for each in found):
            same = tuple(each.answers for each in found if each.servers == servers)
            yield _Change(direction, group, same, len(same) == len(answers), servers)


def _is_let_in_otherwise(answers: Answers, *, closed: int) -> bool:
    """Whether only the other state lets a request in: `closed` is 0 for the old state, 1 for the new one."""
    states: tuple[Explanation | None, ...] = answers[1:]
    return not is_admitted(states[closed]) and is_admitted(states[1 - closed])


def _list_would_deny(answers: Answers) -> list[bool]:
    """List whether each state would deny a request that both let in; empty if one does not let it in."""
    if not all(map(is_admitted, answers[1:])):
        return []
    return [bool(found is not None and found.would_deny) for found in answers[1:]]


def _build_change(questions: PortQuestions, change: _Change, clients: list[str]) -> AccessChange:
    request, before, after = change.differing[0]
    return AccessChange(
        change=change.direction,
        level="warning" if change.direction == "opens" else "info",
        service="/".join(questions.name.service),
        port=questions.name.port,
        clients=tuple(sorted(clients)),
        example=questions.show_example(change.group.clients[0], request),
        old=show_result(before),
        new=show_result(after),
        requests=questions.show_requests([each[0] for each in change.differing[1:]]),
        is_every=change.is_every,
        servers=change.servers,
    )
