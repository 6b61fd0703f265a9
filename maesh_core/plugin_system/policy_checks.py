"""The interface of policy checkers, which `maesh check` calls: the whole policy in, findings with stable codes out.

Values and interfaces only. A checker also names the kinds of its plugin's other errors and notices, which `maesh
status` and `/api/objects` show as text: `maesh check` adds their codes and hints.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, Protocol, TypeAlias

import msgspec

from maesh_core.model.keys import ObjectKey
from maesh_core.model.matches import HttpMatch
from maesh_core.model.resources import Resource
from maesh_core.model.topology import BackendNode, ServiceNode
from maesh_core.plugin_system.interfaces import ResourceT, TopologyView

# --- policy ----------------------------------------------------------------------------------------------------------

ObjectType: TypeAlias = type[Resource]
Severity = Literal["error", "warning", "notice"]
"""`error`: something is refused or answered with an error. `warning`: traffic probably does not flow as meant."""


class FindingKind(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of finding. `code` is stable: capital letters and three digits, as in `ACME101`; `MSH` is Maesh's own."""

    code: str
    severity: Severity
    title: str
    """What is wrong, without names, in one sentence without a full stop."""
    hint: str
    """What to do, in one sentence without a full stop."""
    patterns: tuple[str, ...] = ()
    """Regular expressions (Python) of whole errors and notices that are of this kind; empty if only `check` reports it.
    The first kind that has one decides."""
    kinds: tuple[str, ...] = ()
    """The kinds of objects whose texts `patterns` are compared with; empty: all."""


class PolicyFinding(msgspec.Struct, frozen=True, kw_only=True):
    """A finding about an object. `code` is that of one of the checker's kinds, or of the core's; `text` is one line.

    `place` is the path of the field that it concerns, such as `spec.rules[1].matches[0]`; empty for the whole object.
    """

    code: str
    key: ObjectKey
    text: str
    type: ObjectType | None = None
    """The class of the object; None: it is a Service."""
    place: str = ""


class PolicyView(TopologyView, Protocol):
    """All objects, and the nodes of all services after every topology builder."""

    @property
    def nodes(self) -> Mapping[ObjectKey, ServiceNode]:
        """The services of the mesh, sorted. Their annotations have the mesh's ones without prefix."""

    def list_objects(self, type_: type[ResourceT]) -> Sequence[ResourceT]:
        """List the objects of a kind that the mesh does not ignore, sorted by key."""

    def covers(self, one: HttpMatch, other: HttpMatch) -> bool:
        """Return whether every request that meets `other` also meets `one`; False if that cannot be decided."""

    def find_impossible(self, match: HttpMatch) -> str:
        """Explain why no request meets a match; empty if one may."""

    def find_weight_problems(self, backends: Sequence[BackendNode]) -> Iterable[tuple[str, str]]:
        """Return the code and the text of what is wrong with the weights of one split's backends."""


class PolicyChecker(Protocol):
    """Checks the whole policy, and names the kinds of all findings of its plugin."""

    @property
    def finding_kinds(self) -> Sequence[FindingKind]:
        """The kinds of its findings, and of other errors and notices about the plugin's objects and annotations."""

    def check(self, view: PolicyView) -> Iterable[PolicyFinding]:
        """Find what a single object or service does not show, such as rules that never apply. Must not raise."""
