"""What a port's rules become in the configuration: services of rules, of backends, and side services, with their keys.

Takes a port of a service; returns its plan, from which all other modules read the keys. A rule is a service of its own,
`PORT/rule/NAME`, that is divided among its backends. Rules share the services of backends, so that a changed pod
changes one service. Checks nothing: controller/topology/port_rules.py has checked every name in a key.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import gcd
from typing import NamedTuple

import msgspec

from maesh_core.errors import ConfigurationError
from maesh_core.model.configuration import Answer, Part, Service
from maesh_core.model.keys import ObjectKey, build_port_key
from maesh_core.model.resources import Resource
from maesh_core.model.topology import AnswerNode, BackendNode, BranchNode, PortNode, RuleTable
from maesh_core.process.printable import show_line

_NO_BACKEND = Answer(status=500, reason="no backend of the rule has weight")
SHARE_LIMIT = 2**31 - 1
"""Limit of the weight of a part (proxy/routing/checks.py)."""


class PlannedPart(NamedTuple):
    """A backend's share of a rule; `key` is that of its service, which other rules may use, too."""

    key: str
    backend: BackendNode
    weight: int


class PlannedRule(NamedTuple):
    """A rule, with the key of its service. Without `parts`, it answers every request."""

    key: str
    rule: BranchNode
    parts: tuple[PlannedPart, ...]


class RulePlan(msgspec.Struct, frozen=True, kw_only=True):
    """What the rules of one port become. `producer` is None if there are no rules for all clients.

    `consumers` has the rules for clients of a namespace. `backends` has the backend of each service that a rule uses,
    or that gets copies, by key; `sides` has the keys of the latter by name. `fallback` is the key of the service that
    clients without rules use, if there is one.
    """

    producer: tuple[PlannedRule, ...] | None = None
    consumers: Mapping[str, tuple[PlannedRule, ...]] = {}
    backends: Mapping[str, BackendNode] = {}
    sides: Mapping[str, str] = {}
    fallback: str | None = None

    @property
    def rules(self) -> Iterator[PlannedRule]:
        """All rules, those of consumers last."""
        yield from self.producer or ()
        for rules in self.consumers.values():
            yield from rules


def name_kind(type_: type[Resource]) -> str:
    """Name the kind of an object that defines rules: the class may say it as `kind`."""
    kind = getattr(type_, "kind", None)
    return kind if isinstance(kind, str) else type_.__name__


def has_rules(port: PortNode) -> bool:
    """Return whether rules decide about the traffic of a port, or that of some clients."""
    return port.rules is not None or bool(port.consumers)


def plan_rules(service: ObjectKey, port: PortNode) -> RulePlan:
    """Plan the rules of a service's port; an empty plan if it has none. Side services do not need rules."""
    planner = _Planner(service, port)
    sides = {name: planner.add_side(name, backend) for name, backend in sorted(port.side_backends.items())}
    producer = None if port.rules is None else planner.plan_table("rule", port.rules)
    consumers = {
        namespace: planner.plan_table(f"consumer/{namespace}", table)
        for namespace, table in sorted(port.consumers.items())
    }
    return RulePlan(
        producer=producer,
        consumers=consumers,
        backends=planner.backends,
        sides=sides,
        fallback=planner.key if producer is None and consumers and not port.branches else None,
    )


def list_rule_backends(port: PortNode) -> Iterator[BackendNode]:
    """List the backends of all rules of a port, and those that get copies; one may appear several times."""
    for table in (*(() if port.rules is None else (port.rules,)), *port.consumers.values()):
        for rule in table.rules:
            yield from rule.backends
    yield from port.side_backends.values()


def select_backends(rule: BranchNode) -> Sequence[BackendNode]:
    """Select the backends that get a share of a branch or rule, or that middlewares may choose.

    Unless shares are kept, those without servers get nothing while another has some.
    """
    if rule.keeps_idle:
        return rule.backends
    weighted = [backend for backend in rule.backends if backend.weight > 0]
    if rule.keeps_shares:
        return weighted
    return [backend for backend in weighted if backend.servers] or weighted


def build_rule_service(rule: PlannedRule) -> Service:
    """Build the service of a rule: divided among its backends, or an answer."""
    if rule.rule.answer is not None:
        return Service(answer=_build_answer(rule.rule.answer))
    if not any(part.weight for part in rule.parts):
        return Service(answer=_NO_BACKEND)
    divisor = gcd(*(part.weight for part in rule.parts))
    return Service(parts=tuple(Part(service=part.key, weight=part.weight // divisor) for part in rule.parts))


def _build_answer(node: AnswerNode) -> Answer:
    return Answer(status=node.status, reason=node.reason, grpc_status=node.grpc_status)


def build_backend_service(backend: BackendNode, build: Callable[[BackendNode], Service]) -> Service:
    """Build a backend's service; one with an error in its own annotations answers its share with an error."""
    try:
        return build(backend)
    except ConfigurationError as error:
        return Service(answer=Answer(status=500, reason=show_line(f"backend {backend.service}: {error}")))


class _Planner:
    """The plan of one port so far."""

    __slots__ = ("_answers", "_port", "_service", "backends", "key")

    def __init__(self, service: ObjectKey, port: PortNode) -> None:
        self._service, self._port = service, port
        self._answers: dict[AnswerNode, str] = {}
        self.key = build_port_key(service, port.number)
        self.backends: dict[str, BackendNode] = {}

    def plan_table(self, prefix: str, table: RuleTable) -> tuple[PlannedRule, ...]:
        return tuple(
            PlannedRule(
                f"{self.key}/{prefix}/{rule.name}",
                rule,
                () if rule.answer is not None else self._plan_parts(select_backends(rule)),
            )
            for rule in table.rules
        )

    def add_side(self, name: str, backend: BackendNode) -> str:
        key = f"{self.key}/side/{name}"
        self.backends[key] = backend
        return key

    def _plan_parts(self, backends: Iterable[BackendNode]) -> tuple[PlannedPart, ...]:
        """Plan the parts of a rule; a backend that a rule names twice has one part, unless its filters differ."""
        parts: dict[str, PlannedPart] = {}
        for backend in backends:
            base = key = self._find_key(backend)
            number = 1
            while key in parts and parts[key].backend.filters != backend.filters:
                number += 1
                key = f"{base}/{number}"
            weight = backend.weight + (parts[key].weight if key in parts else 0)
            parts[key] = PlannedPart(key, backend, min(weight, SHARE_LIMIT))
            self.backends.setdefault(key, backend)
        return tuple(parts.values())

    def _find_key(self, backend: BackendNode) -> str:
        port, answer = backend.port, backend.answer
        if answer is not None or port is None:
            found = answer or AnswerNode(503, f"backend {backend.service} has no port")
            return self._answers.setdefault(found, f"{self.key}/answer/{len(self._answers)}")
        place = build_port_key(backend.service, port.number)
        if backend.protocol:
            return f"{self.key}/backend/{place}/{backend.protocol}"
        return self.key if place == self.key else f"{self.key}/backend/{place}"
