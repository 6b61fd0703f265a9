"""The controller's half: builds retries from annotations, or from the field `retry` of a rule, or an error."""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from maesh_core.plugin import (
    ConfigurationError,
    Duration,
    FilterRequest,
    MiddlewareBuilder,
    PositiveDuration,
    Question,
    ServiceNode,
    Stage,
    Verdict,
    build_annotation_error,
    hookimpl,
    read_annotation,
    read_filter,
    read_filter_duration,
)
from maesh_retry import RetrySettings
from maesh_retry.settings import ServiceRetry

ATTEMPTS, RETRY_ON, TIMEOUT = "retry-attempts", "retry-on", "retry-timeout"
BACKOFF, BUDGET = "retry-backoff", "retry-budget"
ERRORS = ("connect-failure", "reset", "timeout")
GRPC_STATUSES = {"cancelled": 1, "deadline-exceeded": 4, "resource-exhausted": 8, "internal": 13, "unavailable": 14}
"""The statuses of gRPC calls that can be named, as in Envoy's `retry_on`."""
_DEFAULT_ATTEMPTS = 2
"""The default, if a service has another annotation of this plugin but not this one."""
_MOST_ATTEMPTS = 100
_STATUSES = re.compile(r"([45])xx|([45][0-9]{2})(?:-([45][0-9]{2}))?")
_RULE = (
    "is not connect-failure, reset, timeout, cancelled, deadline-exceeded, internal, resource-exhausted, unavailable,"
    " 4xx, 5xx, a status from 400 to 599, or a range such as 502-504"
)


class RuleRetry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The field `retry` of a rule, as in the Gateway API. `attempts` does not include the first attempt."""

    codes: tuple[int, ...] = ()
    attempts: int | None = None
    backoff: str | None = None


class RetryBuilder:
    """Builds the retries of a service from its annotations, and those of a rule."""

    kind = "retry"
    stage = Stage.DELIVER
    annotations: tuple[str, ...] = (ATTEMPTS, RETRY_ON, TIMEOUT, BACKOFF, BUDGET)
    filters: tuple[str, ...] = ("retry",)
    is_single = True

    def __init__(self, settings: RetrySettings) -> None:
        self._settings = settings

    def build_settings(self, annotations: Mapping[str, str], service: ServiceNode) -> ServiceRetry | None:
        """Read the annotations; None for a service that has none of them."""
        if not annotations:
            return None
        attempts = read_annotation(annotations, ATTEMPTS, Annotated[int, Meta(ge=1, le=_MOST_ATTEMPTS)])
        timeout_s = read_annotation(annotations, TIMEOUT, PositiveDuration)
        backoff_s = read_annotation(annotations, BACKOFF, Duration)
        errors, statuses, grpc_statuses = parse_conditions(annotations.get(RETRY_ON))
        return ServiceRetry(
            attempts=_DEFAULT_ATTEMPTS if attempts is None else attempts,
            errors=errors,
            statuses=statuses,
            grpc_statuses=grpc_statuses,
            timeout_s=timeout_s or 0.0,
            body_limit=self._settings.body_limit,
            backoff_s=self._settings.backoff if backoff_s is None else backoff_s,
            backoff_limit_s=max(self._settings.backoff_limit, backoff_s or 0.0),
            budget=self._read_budget(annotations),
        )

    def build_filter(self, requests: Sequence[FilterRequest], service: ServiceNode) -> ServiceRetry:
        """Read the field of one rule. All errors of connections are retried, and time-outs (GEP-1731).

        The field has no budget, so the limit that the owner of the Service sets by annotation holds for each rule.
        """
        request = requests[-1]
        found = read_filter(request, RuleRetry)
        if found.attempts is not None and found.attempts < 1:
            raise ConfigurationError(f"{request.name}: attempts: {found.attempts} is less than 1")
        wrong = next((code for code in found.codes if not 400 <= code <= 599), None)
        if wrong is not None:
            raise ConfigurationError(f"{request.name}: codes: {wrong} is not a status from 400 to 599")
        retries = _DEFAULT_ATTEMPTS - 1 if found.attempts is None else found.attempts
        least_s = 0.0 if found.backoff is None else read_filter_duration(request, "backoff", found.backoff)
        return ServiceRetry(
            attempts=min(retries + 1, _MOST_ATTEMPTS),
            errors=ERRORS,
            statuses=tuple((code, code) for code in sorted(set(found.codes))),
            timeout_s=0.0,
            body_limit=self._settings.body_limit,
            backoff_s=self._settings.backoff if found.backoff is None else 0.0,
            backoff_least_s=least_s,
            backoff_limit_s=self._settings.backoff_limit,
            budget=self._read_budget(service.annotations),
        )

    def _read_budget(self, annotations: Mapping[str, str]) -> float:
        """Read the budget of a service, as a share of its requests; raises ConfigurationError."""
        percent = read_annotation(annotations, BUDGET, Annotated[float, Meta(ge=0, le=100)])
        return float(self._settings.budget if percent is None else percent) / 100

    def describe(self, settings: Mapping[str, object]) -> Sequence[str]:
        """Say after which failures a request is sent again, and how often."""
        found = msgspec.convert(settings, ServiceRetry)
        names = {number: name for name, number in GRPC_STATUSES.items()}
        statuses = [f"{first}" if first == last else f"{first}-{last}" for first, last in found.statuses]
        grpc = [f"gRPC {names.get(number, number)}" for number in found.grpc_statuses]
        reasons = ", ".join((*found.errors, *statuses, *grpc)) or "nothing"
        least_s = found.backoff_least_s or found.backoff_s
        lines = [
            f"up to {found.attempts} attempts, after {reasons}",
            f"pauses from {least_s:g} s to {found.backoff_limit_s:g} s, for at most {found.budget:.3%} of the requests",
            f"keeps up to {found.body_limit} bytes of a body",
        ]
        return [*lines, *([f"all attempts within {found.timeout_s:g} s"] if found.timeout_s else [])]

    def explain(self, settings: Mapping[str, object], question: Question) -> Verdict:
        """Say how often a request may be sent; none is refused."""
        attempts = msgspec.convert(settings, ServiceRetry).attempts
        return Verdict(is_admitted=True, reasons=(f"up to {attempts} attempts; it refuses no request",))


def parse_conditions(text: str | None) -> tuple[tuple[str, ...], tuple[tuple[int, int], ...], tuple[int, ...]]:
    """Read `retry-on`: kinds of errors, ranges of statuses, and gRPC statuses after which a request is sent again.

    Raises ConfigurationError. Without the annotation, only a failed connection is retried (Maesh 1.2).
    """
    errors, statuses, grpc_statuses = set(), set(), set()
    words = [ERRORS[0]] if text is None else [word.strip() for word in text.split(",")]
    for word in words:
        match = _STATUSES.fullmatch(word)
        if word in ERRORS:
            errors.add(word)
        elif word in GRPC_STATUSES:
            grpc_statuses.add(GRPC_STATUSES[word])
        elif match and match[1]:
            statuses.add((int(match[1]) * 100, int(match[1]) * 100 + 99))
        elif match and int(match[2]) <= int(match[3] or match[2]):
            statuses.add((int(match[2]), int(match[3] or match[2])))
        else:
            raise build_annotation_error(RETRY_ON, word, _RULE, known=(*ERRORS, *GRPC_STATUSES, "4xx", "5xx"))
    return tuple(sorted(errors)), tuple(sorted(statuses)), tuple(sorted(grpc_statuses))


class ControllerHalf:
    """What the controller loads."""

    def __init__(self, settings: RetrySettings) -> None:
        self._settings = settings

    @hookimpl
    def maesh_middleware_builders(self) -> Sequence[MiddlewareBuilder]:
        """Return the only builder of this plugin."""
        return [RetryBuilder(self._settings)]
