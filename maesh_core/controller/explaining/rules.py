"""Explains which rule of a port applies to a request, as a proxy decides it.

Takes a router with rules, the document of its port in the topology, and the request; returns the rule, or the response
to a request that no rule matches, with the steps on the way. Does not ask middlewares.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from maesh_core.model.configuration import HttpRouter, HttpRules
from maesh_core.model.matches import HeaderMatch, HttpMatch, QueryMatch
from maesh_core.model.matching import CompiledMatch, has_paths, is_ambiguous

_NO_RULE = "no rule of a route matches the request"


class ChosenRule(NamedTuple):
    """The rule of a request: the service that gets it, the chain on its way, and what the topology says about it.

    `service` is empty if nothing gets the request; the response then has `status` and `reason`.
    """

    service: str
    middlewares: Sequence[str] = ()
    document: Mapping[str, Any] = {}
    status: int = 0
    reason: str = ""


def choose_rule(
    router: HttpRouter, document: Mapping[str, Any], request: Any, *, namespace: str, steps: list[str]
) -> ChosenRule:
    """Choose the rule; `document` is that of the port, `namespace` that of the client, or empty."""
    rules, shown = router.rules, document.get("rules", {})
    _note_consumers(router.consumers, namespace, steps)
    if namespace in router.consumers:
        rules, shown = router.consumers[namespace], document.get("consumers", {}).get(namespace, {})
    if rules is None:
        return ChosenRule(str(router.fallback), router.middlewares)
    if is_ambiguous(request.target) and has_paths([each.match for each in rules.order]):
        return ChosenRule("", status=403, reason="denied: the path is ambiguous, and rules match paths")
    found = _find_match(rules, request)
    if found is None:
        return ChosenRule("", status=rules.status, reason=rules.reason or _NO_RULE)
    place, index = found
    rule, described = rules.rules[index], _get(shown.get("rules", ()), index)
    match = describe_match(rules.order[place].match)
    steps.append(
        f"{name_rule(described, index, rule.name)}: the request matches {match} (match {place + 1} of the port)"
    )
    if described.get("filters"):
        steps.append(f"its filters: {', '.join(str(each.get('name')) for each in described['filters'])}")
    return ChosenRule(rule.service, rule.middlewares, described)


def choose_service(router: Any, *, namespace: str, steps: list[str]) -> str:
    """Choose the service of a router that matches nothing; `namespace` is that of the client, or empty."""
    consumers: Mapping[str, str] = getattr(router, "consumers", {})
    _note_consumers(consumers, namespace, steps)
    return consumers.get(namespace, str(router.service))


def _note_consumers(consumers: Mapping[str, object], namespace: str, steps: list[str]) -> None:
    """Note whether the client has rules of its own, if clients of any namespace have."""
    if namespace in consumers:
        steps.append(f"clients of namespace {namespace} have rules of their own")
    elif consumers:
        others = ", ".join(sorted(consumers))
        steps.append(f"the rules for clients of namespace {others} do not apply to this client")


def is_rule_service(service: str, port_key: str) -> bool:
    """Whether a service is that of a rule of a port, or the answer of a port whose rules cannot be used."""
    return service.startswith((f"{port_key}/rule", f"{port_key}/consumer/"))


def name_rule(document: Mapping[str, Any], index: int, label: str = "") -> str:
    """Name a rule for a person: as in `rule beta of HTTPRoute shop/web`, or by its place in the object: `rules[0] of`.

    The key of a rule without a label ends with this place; `index` is its place among the rules of the port.
    """
    place = str(document.get("key", "")).rpartition("/")[2]
    name = f"rule {label}" if label else f"rule number {index + 1}"
    if not document.get("kind"):
        return name
    name = f"rules[{place}]" if not label and place.isdecimal() else name
    return f"{name} of {document['kind']} {document.get('namespace')}/{document.get('object')}"


def name_stream_rule(document: Mapping[str, Any], service: str) -> str:
    """Name the rule that gets all connections or sessions of a client, by the key of its service; empty if none does.

    `document` is that of the port in the topology.
    """
    for table in (document.get("rules", {}), *document.get("consumers", {}).values()):
        for index, each in enumerate(table.get("rules", ())):
            if each.get("key") == service:
                return name_rule(each, index, str(each.get("label", "")))
    return ""


def describe_match(match: HttpMatch) -> str:
    """Describe the conditions of a match."""
    parts = [
        *(f"path {path}" for path in match.paths),
        *([f"path {match.exact_path} exactly"] if match.exact_path else []),
        *([f"path prefix {match.path_prefix}"] if match.path_prefix else []),
        *([f"path pattern {match.path_pattern}"] if match.path_pattern else []),
        *([f"method {' or '.join(match.methods)}"] if match.methods else []),
        *(f"header {_describe_field(each)}" for each in match.headers),
        *(f"query parameter {_describe_field(each)}" for each in match.queries),
    ]
    return " and ".join(parts) or "everything"


def _describe_field(field: HeaderMatch | QueryMatch) -> str:
    return f"{field.name}={field.value}" if field.value is not None else f"{field.name}~{field.pattern}"


def _find_match(rules: HttpRules, request: Any) -> tuple[int, int] | None:
    """Return the place of the first match, and the index of its rule."""
    for place, each in enumerate(rules.order):
        match = CompiledMatch(each.match)
        if match.is_always or match.holds(request):
            return place, each.rule
    return None


def _get(rules: Sequence[Mapping[str, Any]], index: int) -> Mapping[str, Any]:
    return rules[index] if index < len(rules) else {}
