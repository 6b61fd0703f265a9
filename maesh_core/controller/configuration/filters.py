"""Turns the filters of rules and backends into middlewares, and puts them into the chains of the rules.

Takes the section of a service with its rules, whose chains are the service's own; returns the section with the chains
and middlewares of filters, and what is wrong with them. A rule with a filter that cannot be built answers every request
with 500, and a backend with one answers its share so: no filter is ever skipped. Middlewares of plugins of access
control stay in every chain.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec

from maesh_core.controller.configuration.catalogue import Catalogue
from maesh_core.controller.configuration.plugin_settings import render_settings
from maesh_core.errors import ConfigurationError
from maesh_core.model.configuration import (
    Answer,
    HttpRouter,
    HttpRule,
    HttpRules,
    Middleware,
    Part,
    Section,
    Service,
    chooses_by_rules,
    list_targets,
)
from maesh_core.model.keys import build_middleware_key, build_port_key
from maesh_core.model.matches import HttpMatch
from maesh_core.model.topology import FilterNode, PortNode, RuleProblem, RuleTable, ServiceNode
from maesh_core.plugin_system.hookspecs import FilteringBuilder, FilterRequest, Stage
from maesh_core.plugin_system.rules import PlannedRule, RulePlan, has_rules, plan_rules
from maesh_core.process.printable import show_line

_log = logging.getLogger(__name__)

_UNBUILT = "a filter of the route cannot be used"
"""The reason that clients get, unless the error has one for them."""
_DIGEST_BYTES = 16
"""Enough that nobody finds two settings with one key: routes of other namespaces contribute filters, too."""


class FilteredSection(NamedTuple):
    """A section with the middlewares of filters, and the problems of its rules."""

    section: Section
    problems: tuple[RuleProblem, ...] = ()


class _FilterError(Exception):
    """A filter cannot be built; `reason` is what clients read."""

    def __init__(self, name: str, text: str, reason: str = _UNBUILT) -> None:
        super().__init__(text)
        self.name = name
        self.reason = reason


class _Link(NamedTuple):
    """A middleware in a chain: sorted by the position of its kind, then the service's own before the rule's.

    `is_replacing` means that it takes the place of the service's own of the same kind.
    """

    position: int
    level: int
    key: str
    is_replacing: bool = False


_OWN, _RULE, _BACKEND = 0, 1, 2


def add_filters(
    section: Section, service: ServiceNode, *, ports: Sequence[PortNode], catalogue: Catalogue
) -> FilteredSection:
    """Add the filters of the rules of these ports; `section` has the middlewares of the service's own chains."""
    ruled = [port for port in ports if has_rules(port)]
    if not ruled:
        return FilteredSection(section)
    adder = _Adder(section, service, catalogue)
    for port in ruled:
        adder.add_port(port)
    return FilteredSection(adder.build_section(), tuple(adder.problems))


class _Adder:
    """The section of one service so far."""

    __slots__ = (
        "_catalogue",
        "_middlewares",
        "_positions",
        "_routers",
        "_section",
        "_service",
        "_services",
        "problems",
    )

    def __init__(self, section: Section, service: ServiceNode, catalogue: Catalogue) -> None:
        self._section, self._service, self._catalogue = section, service, catalogue
        self._positions = {builder.kind: place for place, builder in enumerate(catalogue.middleware_builders)}
        self._routers: dict[str, Any] = dict(section.routers)
        self._services: dict[str, Service] = dict(section.services)
        self._middlewares: dict[str, Middleware] = dict(section.middlewares)
        self.problems: list[RuleProblem] = []

    def build_section(self) -> Section:
        """Build the section; services that no router uses any more are left out."""
        services = self._services
        if self.problems:
            targets = [key for router in self._routers.values() for key in list_targets(router)]
            used = {*targets, *(part.service for key in targets if key in services for part in services[key].parts)}
            services = {key: each for key, each in services.items() if key in used}
        return Section(routers=self._routers, services=services, middlewares=self._middlewares)

    def add_port(self, port: PortNode) -> None:
        """Add the filters of the rules of a port, and their chains. Raises ConfigurationError."""
        key = build_port_key(self._service.key, port.number)
        router = self._routers.get(key)
        if not isinstance(router, HttpRouter):
            return
        if not chooses_by_rules(router):
            raise ConfigurationError(f"its traffic type does not support the rules of port {port.number}")
        plan = plan_rules(self._service.key, port)
        rules, consumers = router.rules, dict(router.consumers)
        if rules is not None and plan.producer is not None and port.rules is not None:
            rules = self._add_table(rules, plan.producer, _Table(port, port.rules, plan, router.middlewares))
        for namespace, planned in plan.consumers.items():
            table = _Table(port, port.consumers[namespace], plan, router.middlewares, namespace)
            consumers[namespace] = self._add_table(consumers[namespace], planned, table)
        self._routers[key] = msgspec.structs.replace(router, rules=rules, consumers=consumers)

    def _add_table(self, rules: HttpRules, planned: Sequence[PlannedRule], table: "_Table") -> HttpRules:
        pairs = zip(rules.rules, planned, range(len(planned)), strict=True)
        found = tuple(self._add_rule(rule, each, table, table.list_matches(index)) for rule, each, index in pairs)
        return msgspec.structs.replace(rules, rules=found)

    def _add_rule(
        self, rule: HttpRule, planned: PlannedRule, table: "_Table", matches: Callable[[], tuple[HttpMatch, ...]]
    ) -> HttpRule:
        """Add the filters of a rule and of its backends."""
        node = planned.rule
        if not node.filters and not any(part.backend.filters for part in planned.parts):
            return rule
        own = self._build_own_links(table.own)
        try:
            links = self._build_links(node.filters, table, planned.key, matches(), level=_RULE)
        except _FilterError as error:
            self._note(table, planned, error)
            self._services[planned.key] = _build_answer(error)
            return rule
        self._add_parts(planned, table, own=own, links=links, matches=matches)
        return msgspec.structs.replace(rule, middlewares=_join(own, links))

    def _add_parts(
        self,
        planned: PlannedRule,
        table: "_Table",
        *,
        own: Sequence[_Link],
        links: Sequence[_Link],
        matches: Callable[[], tuple[HttpMatch, ...]],
    ) -> None:
        """Build a chain of its own for each part that has filters."""
        if not any(part.backend.filters for part in planned.parts):
            return
        service = self._services[planned.key]
        parts: list[Part] = []
        for index, (part, each) in enumerate(zip(service.parts, planned.parts, strict=True)):
            if not each.backend.filters or each.backend.answer is not None:
                parts.append(part)
                continue
            try:
                inner = self._build_links(each.backend.filters, table, planned.key, matches(), level=_BACKEND)
            except _FilterError as error:
                self._note(table, planned, error, backend=each)
                key = f"{planned.key}/answer/{index}"
                self._services[key] = _build_answer(error)
                parts.append(Part(service=key, weight=part.weight))
                continue
            middlewares = _join(own, (*links, *inner))
            parts.append(Part(service=part.service, weight=part.weight, middlewares=middlewares))
        self._services[planned.key] = msgspec.structs.replace(service, parts=tuple(parts))

    def _build_own_links(self, own: Sequence[str]) -> list[_Link]:
        """Build the links of the service's own middlewares; those of unknown kinds stay outermost."""
        return [_Link(self._positions.get(self._middlewares[key].kind, -1), _OWN, key) for key in own]

    def _build_links(
        self, filters: Sequence[FilterNode], table: "_Table", rule: str, matches: tuple[HttpMatch, ...], *, level: int
    ) -> list[_Link]:
        """Build a middleware of each kind that the filters need. Raises _FilterError."""
        by_kind: dict[str, tuple[FilteringBuilder, list[FilterRequest]]] = {}
        for each in filters:
            builder = self._catalogue.find_filter(each.name)
            if builder is None:
                raise _FilterError(each.name, f"no enabled plugin builds filter {each.name}")
            request = FilterRequest(
                name=each.name,
                value=each.value,
                matches=matches,
                port=table.port,
                side_services=table.plan.sides,
                rule=rule,
                client_namespace=table.namespace,
            )
            by_kind.setdefault(builder.kind, (builder, []))[1].append(request)
        links = []
        for kind, (builder, requests) in by_kind.items():
            position = self._positions[kind]
            replaces = builder.is_single and builder.stage != Stage.ADMISSION
            key = self._build_middleware(builder, requests)
            links.append(_Link(position, level, key, is_replacing=replaces))
        return links

    def _build_middleware(self, builder: FilteringBuilder, requests: Sequence[FilterRequest]) -> str:
        """Build a middleware and return its key, which is empty if the filters need none."""
        name = requests[0].name
        try:
            settings = builder.build_filter(requests, self._service)
            if settings is None:
                return ""
            rendered = render_settings(settings, f"middleware {builder.kind}")
            key = _build_filter_key(self._service, builder.kind, rendered)
        except ConfigurationError as error:
            text = str(error)  # many errors begin with the filter's name
            text = text if text.startswith(f"{name}: ") else f"{name}: {text}"
            raise _FilterError(name, text, str(getattr(error, "reason", error))) from error
        except Exception as error:  # a plugin's code may raise anything: only this rule is affected
            _log.debug("filter %s of rule %s", name, requests[0].rule, exc_info=True)  # the notice has the rest
            raise _FilterError(name, f"{name} could not be built: {type(error).__name__}: {error}") from error
        self._middlewares.setdefault(key, Middleware(kind=builder.kind, settings=rendered))
        return key

    def _note(self, table: "_Table", planned: PlannedRule, error: _FilterError, *, backend: Any = None) -> None:
        self.problems.append(
            RuleProblem(
                port=table.port.number,
                text=show_line(str(error)),
                rule=planned.rule.name,
                label=planned.rule.label,
                origin=planned.rule.origin,
                namespace=table.namespace,
                filter=error.name,
                backend=None if backend is None else backend.backend.service,
            )
        )


class _Table(NamedTuple):
    """What the rules of one table share."""

    port: PortNode
    node: RuleTable
    plan: RulePlan
    own: tuple[str, ...]
    namespace: str = ""

    def list_matches(self, rule: int) -> Callable[[], tuple[HttpMatch, ...]]:
        """Return a function that lists the matches of a rule; few rules have filters, which need them."""
        return lambda: tuple(each.match for each in self.node.order if each.rule == rule)


def _join(own: Sequence[_Link], added: Sequence[_Link]) -> tuple[str, ...]:
    """Join a chain, outermost first: filters of a backend act after all others (API: those of the rule first)."""
    replaced = {link.position for link in added if link.is_replacing}
    kept = [link for link in own if link.position not in replaced]
    links = sorted((*kept, *added), key=lambda each: (each.level == _BACKEND, each.position, each.level))
    return tuple(link.key for link in links if link.key)


def _build_answer(error: _FilterError) -> Service:
    return Service(answer=Answer(status=500, reason=show_line(error.reason)))


def _build_filter_key(service: ServiceNode, kind: str, settings: Mapping[str, Any]) -> str:
    """Build the key of a filter's middleware from its settings, so that equal ones are one middleware."""
    digest = blake2b(msgspec.json.encode(settings, order="deterministic"), digest_size=_DIGEST_BYTES).hexdigest()
    return f"{build_middleware_key(service.key, kind)}/{digest}"
