"""Renders the rules of a port for `/api/topology/current`.

Takes a port; returns plain values, empty if it has no rules. Each rule has the object that defines it, its matches in
their order, backends, filters, and its answer if it has one; the key is that of its service in the configuration.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from maesh_core.model.keys import ObjectKey
from maesh_core.model.topology import AnswerNode, BackendNode, BranchNode, FilterNode, PortNode, RuleTable
from maesh_core.plugin_system.rules import PlannedRule, has_rules, name_kind, plan_rules


def render_rules(service: ObjectKey, port: PortNode) -> dict[str, Any]:
    """Render `rules`, `consumers` and `sideBackends` of a port, each only if there is something in it."""
    document: dict[str, Any] = {}
    if port.side_backends:
        document["sideBackends"] = {name: _render_backend(each) for name, each in sorted(port.side_backends.items())}
    if not has_rules(port):
        return document
    plan = plan_rules(service, port)
    if port.rules is not None and plan.producer is not None:
        document["rules"] = _render_table(port.rules, plan.producer)
    if plan.consumers:
        document["consumers"] = {
            namespace: _render_table(port.consumers[namespace], rules) for namespace, rules in plan.consumers.items()
        }
    return document


def _render_table(table: RuleTable, rules: tuple[PlannedRule, ...]) -> dict[str, Any]:
    matches: list[list[Any]] = [[] for _ in rules]
    for place, each in enumerate(table.order, 1):
        matches[each.rule].append({"place": place, **msgspec.to_builtins(each.match)})
    return {
        "rules": [_render_rule(each.key, each.rule, found) for each, found in zip(rules, matches, strict=True)],
        "noMatch": _render_answer(table.no_match),
    }


def _render_rule(key: str, rule: BranchNode, matches: list[Any]) -> dict[str, Any]:
    document: dict[str, Any] = {"key": key}
    if rule.origin is not None:
        type_, origin = rule.origin
        document |= {"kind": name_kind(type_), "namespace": origin.namespace, "object": origin.name}
    if rule.label:
        document["label"] = rule.label
    document["matches"] = matches
    if rule.filters:
        document["filters"] = [_render_filter(each) for each in rule.filters]
    if rule.answer is not None:
        document["answer"] = _render_answer(rule.answer)
    else:
        document["backends"] = [_render_backend(each) for each in rule.backends]
    return document


def _render_backend(backend: BackendNode) -> dict[str, Any]:
    document: dict[str, Any] = {
        "service": backend.service.name,
        "namespace": backend.service.namespace,
        "weight": backend.weight,
    }
    if backend.port is not None:
        document["port"] = backend.port.number
        document["ready"] = len(backend.port.servers)
    if backend.protocol:
        document["protocol"] = backend.protocol
    if backend.filters:
        document["filters"] = [_render_filter(each) for each in backend.filters]
    if backend.answer is not None:
        document["answer"] = _render_answer(backend.answer)
    return document


def _render_filter(node: FilterNode) -> dict[str, Any]:
    return {"name": node.name, "value": _render_value(node.value)}


def _render_value(value: Mapping[str, Any]) -> Any:
    try:
        return msgspec.json.decode(msgspec.json.encode(value))  # the document must be one that JSON can represent
    except (TypeError, ValueError, RecursionError) as error:
        return f"cannot be shown: {error}"


def _render_answer(answer: AnswerNode) -> dict[str, Any]:
    return {"status": answer.status, "reason": answer.reason}
