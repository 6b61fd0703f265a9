"""Builds what the rules of an HTTP port become: rules of its router, and services of rules and backends.

Takes a port and its router as it would be without rules; returns the router and all services of the port. A router with
rules has no service of its own, so that proxies that do not know rules close it. The rules have the middlewares of the
service; filters.py adds those of their filters.
"""

from collections.abc import Callable, Iterator, Sequence

import msgspec

from maesh_core.model.configuration import HttpBranch, HttpOrder, HttpRouter, HttpRule, HttpRules, Service
from maesh_core.model.keys import ObjectKey
from maesh_core.model.matches import HttpMatch
from maesh_core.model.topology import BackendNode, PortNode, RuleTable
from maesh_core.plugin_system.rules import (
    PlannedRule,
    RulePlan,
    build_backend_service,
    build_rule_service,
    has_rules,
    plan_rules,
)


def build_rules(
    service: ObjectKey,
    port: PortNode,
    router: HttpRouter,
    *,
    own: Service,
    build_backend: Callable[[BackendNode], Service],
) -> tuple[HttpRouter, dict[str, Service]]:
    """Build the router of a port that has rules or side services, and its services; `own` is that of the port itself.

    The services of the router's branches are not among them.
    """
    plan = plan_rules(service, port)
    key = str(router.service)
    services = {
        name: own if name == key else build_backend_service(backend, build_backend)
        for name, backend in plan.backends.items()
    }
    services |= {rule.key: build_rule_service(rule) for rule in plan.rules}
    router = msgspec.structs.replace(router, side_services=tuple(plan.sides.values()))
    if not has_rules(port):
        return router, services
    if plan.producer is None:
        services[key] = own  # clients of other namespaces use it
    return _replace_service(router, port, plan), services


def _replace_service(router: HttpRouter, port: PortNode, plan: RulePlan) -> HttpRouter:
    middlewares = router.middlewares
    producer = None
    if plan.producer is not None and port.rules is not None:
        producer = _build_table(port.rules, plan.producer, middlewares)
    elif plan.fallback is None:
        producer = _build_branch_rules(router.branches, str(router.service), middlewares)
    consumers = {
        namespace: _build_table(port.consumers[namespace], rules, middlewares)
        for namespace, rules in plan.consumers.items()
    }
    return msgspec.structs.replace(
        router, service=None, branches=(), rules=producer, consumers=consumers, fallback=plan.fallback
    )


def _build_table(table: RuleTable, rules: Sequence[PlannedRule], middlewares: tuple[str, ...]) -> HttpRules:
    return HttpRules(
        rules=tuple(HttpRule(service=each.key, middlewares=middlewares, name=each.rule.label) for each in rules),
        order=tuple(HttpOrder(rule=each.rule, match=each.match) for each in table.order),
        status=table.no_match.status,
        reason=table.no_match.reason,
    )


def _build_branch_rules(branches: Sequence[HttpBranch], service: str, middlewares: tuple[str, ...]) -> HttpRules:
    """Build rules that choose like the branches of a router: for clients that have no rules of their own."""

    def list_order() -> Iterator[HttpOrder]:
        for index, branch in enumerate(branches):
            for match in branch.matches or (HttpMatch(),):
                yield HttpOrder(rule=index, match=match)
        yield HttpOrder(rule=len(branches))

    targets = (*(branch.service for branch in branches), service)
    return HttpRules(
        rules=tuple(HttpRule(service=target, middlewares=middlewares) for target in targets), order=tuple(list_order())
    )
