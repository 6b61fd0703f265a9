"""The status of this controller: its name, whether it may serve the configuration, and which controller leads.

Takes the engine and the cluster, if there is one, and returns the report for `/api/status/controller`. Changes nothing.
"""

from collections.abc import Collection, Mapping
from functools import cache
from typing import TYPE_CHECKING

from maesh_core.controller.rebuilds.engine import Engine
from maesh_core.model.messages import ControllerReport

if TYPE_CHECKING:
    from maesh_core.controller.cluster.membership import Cluster


class ControllerStatus:
    """The status of one controller. Without a cluster it is always up to date, and its own leader.

    `problems` are those that plugins report, by origin. `plugins` are the enabled ones.
    """

    __slots__ = ("_cluster", "_engine", "_identity", "_plugins", "_problems")

    def __init__(
        self,
        identity: str,
        engine: Engine,
        cluster: "Cluster | None",
        problems: Mapping[str, str] | None = None,
        *,
        plugins: Collection[str] = (),
    ) -> None:
        self._identity = identity
        self._engine = engine
        self._cluster = cluster
        self._problems = {} if problems is None else problems
        self._plugins = tuple(sorted(plugins))

    def __repr__(self) -> str:
        return f"<ControllerStatus {self._identity} current={self.is_current}>"

    @property
    def is_current(self) -> bool:
        """Whether the controller's view of the cluster is recent enough to be served."""
        return self._cluster is None or self._cluster.is_current

    def report(self) -> ControllerReport:
        """Build the report of the current status."""
        election = self._cluster.election if self._cluster else None
        return ControllerReport(
            name=self._identity,
            ready=self._engine.is_ready and self.is_current,
            leads=election.is_leader if election else True,
            leader=election.holder if election else self._identity,
            revision=self._engine.revision,
            problems=dict(sorted({**self._engine.problems, **self._problems}.items())),
            version=find_version(),
            plugins=self._plugins,
        )


@cache
def find_version() -> str:
    """Find the version of Maesh, at the first request: the package metadata needs memory."""
    from importlib.metadata import version

    return version("maesh")
