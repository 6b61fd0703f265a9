"""Implements `PolicyView` on an engine that has run: all objects, and the nodes of all services."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from maesh_core.controller.checking.matches import covers, find_impossible
from maesh_core.controller.checking.shares import find_weight_problems
from maesh_core.controller.rebuilds.engine import Engine
from maesh_core.controller.topology.builder import BuilderView
from maesh_core.controller.topology.rules import TopologyRules, is_ignored
from maesh_core.model.annotations import add_plain_names
from maesh_core.model.keys import ObjectKey
from maesh_core.model.matches import HttpMatch
from maesh_core.model.topology import BackendNode, ServiceNode
from maesh_core.plugin_system.interfaces import ResourceT

COMPARISONS_LIMIT = 500_000
"""Limit of the comparisons of matches by all checkers of plugins together; these take about a second."""


class EnginePolicy:
    """A view of what an engine has built; nothing may change meanwhile."""

    def __init__(self, engine: Engine) -> None:
        self._snapshot = engine.objects
        self._rules: TopologyRules = engine.rules
        self._comparisons = 0
        self._view = BuilderView(self._snapshot, self._rules)
        self._nodes = {
            node.key: _show(engine.find_finished(node.key) or node) for node, _, _ in engine.list_described()
        }

    def __repr__(self) -> str:
        return f"<EnginePolicy {len(self._nodes)} services>"

    @property
    def nodes(self) -> Mapping[ObjectKey, ServiceNode]:
        """The services of the mesh, sorted."""
        return self._nodes

    def list_objects(self, type_: type[ResourceT]) -> Sequence[ResourceT]:
        """List the objects of a kind that the mesh does not ignore."""
        found = (self._snapshot.get(type_, key) for key in self._snapshot.keys(type_))
        return [each for each in found if each is not None and not is_ignored(each, self._rules)]

    def covers(self, one: HttpMatch, other: HttpMatch) -> bool:
        """Return whether every request that meets `other` also meets `one`; False beyond a number of comparisons."""
        self._comparisons += 1
        return self._comparisons <= COMPARISONS_LIMIT and covers(one, other)

    def find_impossible(self, match: HttpMatch) -> str:
        """Explain why no request meets a match; empty if one may."""
        return find_impossible(match)

    def find_weight_problems(self, backends: Sequence[BackendNode]) -> Iterable[tuple[str, str]]:
        """Return the code and the text of what is wrong with the weights of one split's backends."""
        return find_weight_problems(backends)

    def get(self, type_: type[ResourceT], key: ObjectKey) -> ResourceT | None:
        """Read one object, or None."""
        return self._snapshot.get(type_, key)

    def find(self, type_: type[ResourceT], index: str, value: str | ObjectKey) -> Sequence[ResourceT]:
        """Read the objects under a value of an index."""
        return self._snapshot.find(type_, index, value)

    def build_service(self, key: ObjectKey) -> ServiceNode | None:
        """Build a service's node without additions of plugins."""
        return self._view.build_service(key)

    def list_services(self, namespace: str) -> Sequence[ObjectKey]:
        """List the services of a namespace."""
        return self._view.list_services(namespace)

    def has_filter(self, name: str) -> bool:
        """Return whether an enabled plugin builds the filter of this name."""
        return name in self._rules.filters


def _show(node: ServiceNode) -> ServiceNode:
    return msgspec.structs.replace(node, annotations=add_plain_names(node.annotations))
