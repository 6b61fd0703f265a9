"""Compares two states of a mesh: who may call whom, where requests go, what limits them.

Takes two states that the same plugins built. Only ports whose configuration differs are examined: example requests are
explained in both states (explaining/explanation.py), so each reported change has an example whose results differ.
Accounts without pods in one state get pods there, so a workload that only one state has is no change of the rules.
"""

from collections.abc import Iterable, Iterator, Sequence

from maesh_core.controller.comparing.access import compare_access
from maesh_core.controller.comparing.asking import PortQuestions, build_questions
from maesh_core.controller.comparing.changes import (
    AccessChange,
    LimitChange,
    MeshDiff,
    PortChange,
    RouteChange,
    UnclearChange,
)
from maesh_core.controller.comparing.port_views import PortName, PortView, ViewBuilder
from maesh_core.controller.comparing.routes import compare_limits, compare_routes
from maesh_core.controller.mesh_states.clients import Account, list_accounts, list_named_accounts
from maesh_core.controller.mesh_states.state import MeshState
from maesh_core.model.matches import HttpMatch
from maesh_core.model.matching import list_patterns

OTHER_ACCOUNT = "default"
"""The account of a client in a namespace of which no other client is known."""


def compare_states(old: MeshState, new: MeshState) -> MeshDiff:
    """Compare two states. Adds pods to both."""
    _share_clients(old, new)
    access: list[AccessChange] = []
    routes: list[RouteChange] = []
    limits: list[LimitChange] = []
    ports: list[PortChange] = []
    unclear: list[UnclearChange] = []
    for name, before, after in _list_differing(old, new):
        if before is None or after is None:
            ports.append(_describe_port(name, before, after))
        questions = build_questions(old, new, name, before, after)
        changes = compare_access(questions)
        access += changes
        if before is not None and after is not None:
            rerouted = compare_routes(questions)
            routes += rerouted
            limits += compare_limits(questions)
            unclear += _find_unclear(questions, changes, rerouted)
    return MeshDiff(
        old=old.label,
        new=new.label,
        access=tuple(sorted(access, key=lambda each: (each.change != "opens", each.service, each.port))),
        routes=tuple(routes),
        limits=tuple(limits),
        ports=tuple(ports),
        unclear=tuple(unclear),
        problems={name: dict(state.problems) for name, state in (("old", old), ("new", new)) if state.problems},
    )


def _share_clients(old: MeshState, new: MeshState) -> None:
    """Add the same clients to both states: each account with a pod, each that a rule names, one in each namespace."""
    accounts: set[Account] = set()
    for state in (old, new):
        accounts |= list_accounts(state.engine) | list_named_accounts(state.topology)
    known = {account.namespace for account in accounts}
    for state in (old, new):
        accounts |= {Account(each, OTHER_ACCOUNT) for each in _list_consumers(state) if each not in known}
    for state in (old, new):
        state.add_clients(accounts)


def _list_consumers(state: MeshState) -> Iterator[str]:
    for service in state.topology["services"].values():
        for port in service["ports"]:
            yield from port.get("consumers", {})


def _list_differing(old: MeshState, new: MeshState) -> Iterator[tuple[PortName, PortView | None, PortView | None]]:
    """List the ports whose configuration differs, sorted."""
    builders = ViewBuilder(old), ViewBuilder(new)
    found = [builder.list_ports() for builder in builders]
    for name in sorted(found[0].keys() | found[1].keys()):
        before, after = (
            builder.build(name, ports[name]) if name in ports else None
            for builder, ports in zip(builders, found, strict=True)
        )
        if before is None or after is None or before.content != after.content:
            yield name, before, after


def _describe_port(name: PortName, before: PortView | None, after: PortView | None) -> PortChange:
    view = after or before
    return PortChange(
        change="removed" if after is None else "added",
        service="/".join(name.service),
        port=name.port,
        traffic_type="" if view is None else view.traffic_type,
    )


def _find_unclear(
    questions: PortQuestions, access: Sequence[AccessChange], routes: Sequence[RouteChange]
) -> Iterator[UnclearChange]:
    """Find rules that differ, while no example shows a difference."""
    before, after = questions.before, questions.after
    if before is None or after is None:
        return
    service, port = "/".join(questions.name.service), questions.name.port
    if before.guard_settings != after.guard_settings:
        text = "" if access else _describe_patterns(before.guard_matches, after.guard_matches)
        opens = any(each.change == "opens" for each in access)
        if not text and not opens and not questions.examples.is_complete:
            text = "there are more combinations of methods, paths and headers than are examined"
        if text:
            yield UnclearChange(service=service, port=port, text=f"access rules differ: {text}", concerns_access=True)
    text = _describe_patterns(before.matches, after.matches)
    if text and not routes:
        yield UnclearChange(service=service, port=port, text=f"routes differ: {text}")


def _describe_patterns(before: Iterable[HttpMatch], after: Iterable[HttpMatch]) -> str:
    """Describe patterns that only one state has; those without operators are fully examined by examples."""
    old, new = ({pattern for match in matches for pattern in list_patterns(match)} for matches in (before, after))
    parts = [
        f"pattern {', '.join(sorted(found))} is {where}"
        for found, where in ((old - new, "gone"), (new - old, "new"))
        if found
    ]
    return " and ".join(parts)
