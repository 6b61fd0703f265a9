"""The condition that each proxy has a name of its own: takes what proxies report to all controllers.

Names identify proxies everywhere: in sums of traffic, taps, reports and certificates. Of several proxies with one name
and address, only one is asked, and which one changes with their pulls. Does no I/O of its own.
"""

from collections.abc import Iterable, Sequence
from typing import Final, Protocol

import msgspec

from maesh_core.model.addresses import join_port
from maesh_core.model.messages import NodeReport
from maesh_core.plugin_system.conditions import MeshCondition

CONDITION: Final = "proxy-names"
SHARED: Final = "several proxies have this name and address: only one of them is counted"
"""What a report of traffic says about such a proxy."""


class Mesh(Protocol):
    """What all controllers know about the proxies."""

    async def list_proxies(self) -> tuple[Sequence[NodeReport], bool]:
        """List what proxies report to all controllers, and whether all controllers have answered."""


class SharedNames:
    """Implements `ConditionChecker`."""

    __slots__ = ("_mesh",)

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh

    def __repr__(self) -> str:
        return f"<SharedNames of {self._mesh!r}>"

    async def check_conditions(self) -> Sequence[MeshCondition]:
        """Return the condition of the names if it does not hold; raises nothing."""
        reports, _ = await self._mesh.list_proxies()
        return [build_condition(reports)] if any(map(is_shared, reports)) else []


def build_condition(reports: Iterable[NodeReport]) -> MeshCondition:
    """Build the condition; a name that several controllers report is one problem."""
    problems = {
        report.name: f"{report.name}: several proxies have this name: {_list_addresses(report)}"
        for report in reports
        if is_shared(report)
    }
    return MeshCondition(
        id=CONDITION,
        title="each proxy has a name of its own",
        hint="Start each proxy with its own --node. Until then, only one of them is counted, tapped and reported.",
        problems=tuple(problem for _, problem in sorted(problems.items())),
    )


def is_shared(report: NodeReport) -> bool:
    """Whether several proxies have the name and address of a report."""
    return report.shared_ports is not msgspec.UNSET and len(report.shared_ports) > 1


def _list_addresses(report: NodeReport) -> str:
    ports = () if report.shared_ports is msgspec.UNSET else report.shared_ports
    return ", ".join(join_port(report.ip, port) for port in ports)
