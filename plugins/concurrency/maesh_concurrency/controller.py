"""The controller's half: annotations to the settings of a service's concurrency limit, or an error on that service."""

from collections.abc import Mapping, Sequence

import msgspec

from maesh_concurrency import ConcurrencySettings
from maesh_concurrency.settings import RequestCount, ServiceConcurrency
from maesh_core.plugin import (
    ACCOUNTS,
    MiddlewareBuilder,
    OptionalSection,
    PolicyChecker,
    ServiceNode,
    SourceKind,
    Stage,
    build_annotation_error,
    describe_sources,
    hookimpl,
    parse_sources,
    read_annotation,
)

LIMIT, SOURCE = "limit-concurrency", "limit-concurrency-source"
ADAPTIVE, SMALLEST = "limit-concurrency-adaptive", "limit-concurrency-min"


class ConcurrencyBuilder:
    """Builds a service's limit from its annotations."""

    kind = "concurrency"
    stage = Stage.PROTECT
    annotations: tuple[str, ...] = (LIMIT, ADAPTIVE, SMALLEST, SOURCE)

    def __init__(self, settings: ConcurrencySettings) -> None:
        self._settings = settings
        self._kinds: Mapping[str, SourceKind] = {}

    def use_source_kinds(self, kinds: Mapping[str, SourceKind]) -> None:
        """Store the kinds of sources that other plugins add."""
        self._kinds = kinds

    def build_settings(self, annotations: Mapping[str, str], service: ServiceNode) -> ServiceConcurrency | None:
        """Read the annotations; None without any."""
        if not annotations:
            return None
        limit = read_annotation(annotations, LIMIT, RequestCount)
        if limit is None:
            name, text = next(iter(annotations.items()))
            raise build_annotation_error(name, text, f"has no effect without {LIMIT}")
        is_adaptive = bool(read_annotation(annotations, ADAPTIVE, bool))
        smallest = read_annotation(annotations, SMALLEST, RequestCount)
        if smallest is not None and ADAPTIVE not in annotations:
            raise build_annotation_error(SMALLEST, annotations[SMALLEST], f"has no effect without {ADAPTIVE}")
        if smallest is not None and smallest > limit:
            raise build_annotation_error(SMALLEST, annotations[SMALLEST], f"is above {LIMIT}")
        if is_adaptive and SOURCE in annotations:
            raise build_annotation_error(SOURCE, annotations[SOURCE], f"cannot be combined with {ADAPTIVE}")
        return ServiceConcurrency(
            limit=limit, sources=self._read_sources(annotations), is_adaptive=is_adaptive, smallest=smallest or 1
        )

    def _read_sources(self, annotations: Mapping[str, str]) -> tuple[str, ...]:
        text = annotations.get(SOURCE)
        if text is None:
            return ()
        try:
            return parse_sources(
                text, self._kinds, accounts_setting="" if self._settings.accounts else "concurrency.accounts"
            )
        except ValueError as error:
            raise build_annotation_error(SOURCE, text, str(error)) from error

    def describe(self, settings: Mapping[str, object]) -> Sequence[str]:
        """Describe the limit in a line."""
        found = msgspec.convert(settings, ServiceConcurrency)
        each = f" for each {describe_sources(found.sources)}" if found.sources else ""
        adapted = f", adapted to the latency down to {found.smallest}" if found.is_adaptive else ""
        return [f"at most {found.limit} requests at once{each}, on each node{adapted}"]


class ControllerHalf:
    """What the controller loads."""

    def __init__(self, settings: ConcurrencySettings) -> None:
        self._settings = settings

    @hookimpl
    def maesh_middleware_builders(self) -> Sequence[MiddlewareBuilder]:
        """Return the only builder of this plugin."""
        return [ConcurrencyBuilder(self._settings)]

    @hookimpl
    def maesh_policy_checkers(self) -> Sequence[PolicyChecker]:
        """Return what `maesh check` reports about limits."""
        from maesh_concurrency.policy import ConcurrencyPolicyChecker  # only for this command

        return [ConcurrencyPolicyChecker()]

    @hookimpl
    def maesh_optional_sections(self) -> Sequence[OptionalSection]:
        """Ask for the accounts of clients if the settings say so."""
        return [ACCOUNTS] if self._settings.accounts else []
