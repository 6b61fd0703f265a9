"""The controller's half: annotations to the settings of one service's rate limits, or an error on that service."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from maesh_core.plugin import (
    ACCOUNTS,
    ApiPage,
    ConditionChecker,
    ControllerNode,
    MiddlewareBuilder,
    OptionalSection,
    PolicyChecker,
    PositiveDuration,
    ServiceNode,
    SourceKind,
    Stage,
    build_annotation_error,
    describe_sources,
    hookimpl,
    parse_sources,
    read_annotation,
)
from maesh_ratelimit import RateLimitSettings
from maesh_ratelimit.lines import parse_line
from maesh_ratelimit.settings import LIMITS_LIMIT, STORES, Limit, ServiceLimits
from maesh_ratelimit.store_condition import StoreCondition
from maesh_ratelimit.store_page import StorePage

AVERAGE, BURST, PERIOD, SOURCE = "ratelimit-average", "ratelimit-burst", "ratelimit-period", "ratelimit-source"
LIMITS, STORE, HEADERS = "ratelimit-limits", "ratelimit-store", "ratelimit-headers"
DEFAULT_NAME = "default"
"""The name of the limit that the annotations without a name define."""
_Count = Annotated[int, Meta(ge=1, le=10**9)]


class RateLimitBuilder:
    """Builds a service's rate limits from its annotations."""

    kind = "ratelimit"
    stage = Stage.LIMIT
    annotations: tuple[str, ...] = (AVERAGE, BURST, HEADERS, LIMITS, PERIOD, SOURCE, STORE)

    def __init__(self, settings: RateLimitSettings) -> None:
        self._settings = settings
        self._kinds: Mapping[str, SourceKind] = {}

    def use_source_kinds(self, kinds: Mapping[str, SourceKind]) -> None:
        """Store the kinds of sources that other plugins add."""
        self._kinds = kinds

    def build_settings(self, annotations: Mapping[str, str], service: ServiceNode) -> ServiceLimits | None:
        """Read the annotations; None without any."""
        if not annotations:
            return None
        store = self._read_store(annotations)
        limits = [*self._read_default(annotations, store), *self._read_lines(annotations, store)]
        if not limits:
            name, text = next(iter(annotations.items()))
            raise build_annotation_error(name, text, f"has no effect without {AVERAGE}, {BURST} or {LIMITS}")
        shows_headers = read_annotation(annotations, HEADERS, bool)
        return ServiceLimits(
            limits=tuple(limits), shows_headers=self._settings.headers if shows_headers is None else shows_headers
        )

    def _read_default(self, annotations: Mapping[str, str], store: str) -> list[Limit]:
        """Read the limit without a name: a missing average is the burst, a missing burst the average."""
        average = read_annotation(annotations, AVERAGE, _Count)
        burst = read_annotation(annotations, BURST, _Count)
        either = average or burst
        if either is None:
            for name in (PERIOD, SOURCE):
                if name in annotations:
                    rule = f"has no effect without {AVERAGE} or {BURST}"
                    raise build_annotation_error(name, annotations[name], rule)
            return []
        source = annotations.get(SOURCE, "ip")
        try:
            sources = self._parse_sources(source)
        except ValueError as error:
            raise build_annotation_error(SOURCE, source, str(error)) from error
        limit = Limit(
            name=DEFAULT_NAME,
            average=either,
            burst=burst or either,
            period_s=read_annotation(annotations, PERIOD, PositiveDuration) or 1.0,
            sources=sources,
            store=store,
        )
        return [limit]

    def _read_lines(self, annotations: Mapping[str, str], store: str) -> list[Limit]:
        """Read the limits with names, one on each line."""
        text = annotations.get(LIMITS)
        if text is None:
            return []
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        if not 0 < len(lines) < LIMITS_LIMIT:
            raise build_annotation_error(LIMITS, text, f"has no limit, or {LIMITS_LIMIT} or more")
        found: dict[str, Limit] = {}
        for line in lines:
            try:
                limit = parse_line(line, parse_sources=self._parse_sources, default_store=store)
            except ValueError as error:
                raise build_annotation_error(LIMITS, line, str(error)) from error
            if limit.name in found or limit.name == DEFAULT_NAME:
                raise build_annotation_error(LIMITS, line, f"has the name of another limit, {limit.name}")
            found[limit.name] = limit
        return list(found.values())

    def _read_store(self, annotations: Mapping[str, str]) -> str:
        store = annotations.get(STORE, self._settings.store)
        if store not in STORES:
            raise build_annotation_error(STORE, store, f"is not one of {', '.join(STORES)}", known=STORES)
        return store

    def _parse_sources(self, text: str) -> tuple[str, ...]:
        """Parse sources; raises ValueError, also for accounts that proxies do not get."""
        setting = "" if self._settings.accounts else "ratelimit.accounts"
        return parse_sources(text, self._kinds, accounts_setting=setting)

    def describe(self, settings: Mapping[str, object]) -> Sequence[str]:
        """Describe the limits, each in a line."""
        return [_describe(limit) for limit in msgspec.convert(settings, ServiceLimits).limits]


def _describe(limit: Limit) -> str:
    period = "second" if limit.period_s == 1 else f"{limit.period_s:g} s"
    burst = f", {limit.burst} at once" if limit.burst != limit.average else ""
    name = "" if limit.name == DEFAULT_NAME else f"{limit.name}: "
    each = describe_sources(limit.sources)
    scope = "on each node" if limit.store == "node" else "in the whole mesh"
    return f"{name}at most {limit.average} requests per {period} for each {each}{burst}, {scope}"


class ControllerHalf:
    """What the controller loads."""

    def __init__(self, settings: RateLimitSettings) -> None:
        self._settings = settings
        self._builder = RateLimitBuilder(settings)

    @hookimpl
    def maesh_middleware_builders(self) -> Sequence[MiddlewareBuilder]:
        """Return the only builder of this plugin."""
        return [self._builder]

    @hookimpl
    def maesh_policy_checkers(self) -> Sequence[PolicyChecker]:
        """Return what `maesh check` reports about limits."""
        from maesh_ratelimit.policy import LimitPolicyChecker  # only for this command

        return [LimitPolicyChecker(self._builder, self._settings)]

    @hookimpl
    def maesh_api_pages(self, controller: ControllerNode) -> Sequence[ApiPage]:
        """Return the page of the stores' states."""
        return [StorePage(controller)]

    @hookimpl
    def maesh_mesh_conditions(self, controller: ControllerNode) -> Sequence[ConditionChecker]:
        """Return what says which proxies do not reach their store."""
        return [StoreCondition(controller, self._settings)]

    @hookimpl
    def maesh_optional_sections(self) -> Sequence[OptionalSection]:
        """Ask for the accounts of clients if the settings say so."""
        return [ACCOUNTS] if self._settings.accounts else []
