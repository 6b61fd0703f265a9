"""Finds targets that allow no client or have no destination: errors of single objects.

Errors in what a target grants for a service are found when the service is built (grants.py), and not here.
"""

from collections.abc import Iterator, Sequence

from maesh_acl.kinds import SERVICE_ACCOUNT, Account, TrafficTarget
from maesh_core.plugin import Findings, ObjectKey, Pod, TopologyView

ACCOUNT_INDEX = "account"
"""An index of the core's Pods."""


class TargetChecker:
    """Checks whether pods have a target's accounts."""

    type = TrafficTarget

    def check(self, view: TopologyView, resource: TrafficTarget, services: Sequence[ObjectKey]) -> Findings:
        """Report accounts that no pod has, and sources that match no client."""
        notices = [*_check_destination(view, resource, services), *_check_sources(view, resource)]
        return Findings(notices=tuple(dict.fromkeys(notices)))


def _check_destination(view: TopologyView, target: TrafficTarget, services: Sequence[ObjectKey]) -> Iterator[str]:
    account = target.called_key
    if not account.name:
        yield "its destination has no name, so it grants nothing"
    elif services:  # its account is that of servers of these services
        return
    elif not view.find(Pod, ACCOUNT_INDEX, account):
        yield f"no pod has its destination's service account {account}, so it grants nothing"
    else:
        yield f"no service has pods with its destination's service account {account}, so it grants nothing"


def _check_sources(view: TopologyView, target: TrafficTarget) -> Iterator[str]:
    if not target.sources:
        yield "it has no sources, so it allows no client"
    for caller in target.sources:
        problem = _find_problem(view, caller)
        if problem:
            yield f"source {caller.name or '(without name)'}{problem}"


def _find_problem(view: TopologyView, caller: Account) -> str:
    if caller.kind not in ("", SERVICE_ACCOUNT):
        return f" is of kind {caller.kind!r} and not {SERVICE_ACCOUNT}, so it matches no client"
    if not caller.name or not caller.namespace:
        return f" has no {'name' if not caller.name else 'namespace'}, so it matches no client"
    if not view.find(Pod, ACCOUNT_INDEX, ObjectKey(caller.namespace, caller.name)):
        return f" of namespace {caller.namespace} matches no client: no pod has this service account"
    return ""
