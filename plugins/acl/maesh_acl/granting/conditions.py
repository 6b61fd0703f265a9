"""Says where access control denies nothing, because it is in audit mode, for operators who rely on it.

Takes the nodes of services, with the settings that were built for each; returns a condition of the mesh.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Protocol

from maesh_acl import AccessSettings, AclSettings, LeafGrants
from maesh_core.plugin import MeshCondition, ServiceNode

NAMES_SHOWN: Final = 10
"""Limit of the names in one line."""
_TITLE: Final = "access control denies what no TrafficTarget allows"
_HINT: Final = (
    "When maesh acl report shows nothing that would be denied, remove acl.mode=audit or the annotations acl-mode."
)


class Controller(Protocol):
    """The part of `ControllerNode` that is used."""

    def list_services(self) -> Sequence[ServiceNode]: ...  # noqa: D102


class AuditCondition:
    """Implements `ConditionChecker`."""

    def __init__(self, controller: Controller, settings: AccessSettings) -> None:
        self._controller = controller
        self._settings = settings

    def __repr__(self) -> str:
        return f"<AuditCondition {self._settings.mode}>"

    async def check_conditions(self) -> Sequence[MeshCondition]:
        """Name the services and TrafficTargets in audit mode."""
        services = self._controller.list_services()
        audited = [str(node.key) for node in services if _is_audited(node)]
        targets = sorted({name for node in services for name in _list_targets(node)})
        problems = []
        if self._settings.mode == "audit":
            enforced = len(services) - len(audited)
            rest = f", except for {_count(enforced, 'service')}" if enforced else ""
            problems.append(f"access control is in audit mode (acl.mode=audit), so it denies nothing{rest}")
        elif audited:
            problems.append(
                f"access to {_count(len(audited), 'service')} is in audit mode by annotation, so nothing is denied"
                f" there: {_join(audited)}"
            )
        if targets:
            named = f"{_count(len(targets), 'TrafficTarget')} in audit mode {_let(len(targets))} sources"
            problems.append(f"{named} send any HTTP request: {_join(targets)}")
        return [MeshCondition(id="access-enforced", title=_TITLE, hint=_HINT, problems=problems)]


def _list_leaves(node: ServiceNode) -> Iterator[LeafGrants]:
    settings = node.additions.get("acl")
    if isinstance(settings, AclSettings):
        for destinations in (settings.destinations, settings.datagrams or {}):
            for leaves in destinations.values():
                yield from leaves


def _is_audited(node: ServiceNode) -> bool:
    """Whether a port of the service itself is in audit mode; other leaves are services of their own."""
    return any(leaf.is_audited and leaf.service == node.key.name for leaf in _list_leaves(node))


def _list_targets(node: ServiceNode) -> Iterator[str]:
    return (grant.target for leaf in _list_leaves(node) for grant in leaf.grants if grant.is_audited)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _let(number: int) -> str:
    return "lets its" if number == 1 else "let their"


def _join(names: Iterable[str]) -> str:
    found = list(names)
    more = f" and {len(found) - NAMES_SHOWN} more" if len(found) > NAMES_SHOWN else ""
    return ", ".join(found[:NAMES_SHOWN]) + more
