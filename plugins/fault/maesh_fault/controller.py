"""The controller's half: builds a service's faults from its annotations, or an error."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from maesh_core.plugin import (
    GRPC_STATUS_NAMES,
    MiddlewareBuilder,
    PositiveDuration,
    Question,
    ServiceNode,
    Stage,
    Verdict,
    build_annotation_error,
    hookimpl,
    read_annotation,
)
from maesh_fault.settings import LONGEST_DELAY_S, Faults

DELAY, DELAY_PERCENT = "fault-delay", "fault-delay-percent"
ABORT, ABORT_PERCENT = "fault-abort", "fault-abort-percent"
_Percent = Annotated[float, Meta(ge=0, le=100)]
GRPC_STATUSES: Final = {
    name.lower().replace("_", "-"): number for number, name in enumerate(GRPC_STATUS_NAMES) if number
}
"""The statuses of gRPC calls by name, written as in the annotation `retry-on`; OK is no error."""
_RULE = "is not a status from 400 to 599 or the name of a gRPC status, such as unavailable"


class FaultBuilder:
    """Builds a service's faults from its annotations."""

    kind = "fault"
    stage = Stage.SHAPE
    annotations: tuple[str, ...] = (DELAY, DELAY_PERCENT, ABORT, ABORT_PERCENT)

    def build_settings(self, annotations: Mapping[str, str], service: ServiceNode) -> Faults | None:
        """Read the annotations; None for a service that has none of them."""
        if not annotations:
            return None
        for needing, needed in ((DELAY_PERCENT, DELAY), (ABORT_PERCENT, ABORT)):
            if needing in annotations and needed not in annotations:
                raise build_annotation_error(needing, annotations[needing], f"has no effect without {needed}")
        delay_s = read_annotation(annotations, DELAY, PositiveDuration) or 0.0
        if delay_s > LONGEST_DELAY_S:
            raise build_annotation_error(DELAY, annotations[DELAY], "is longer than 1m")
        status, grpc_status = parse_abort(annotations.get(ABORT))
        return Faults(
            delay_s=delay_s,
            delay_share=_read_share(annotations, DELAY_PERCENT),
            status=status,
            grpc_status=grpc_status,
            abort_share=_read_share(annotations, ABORT_PERCENT),
        )

    def describe(self, settings: Mapping[str, object]) -> Sequence[str]:
        """Describe the faults, and the shares of the requests that they concern."""
        found = msgspec.convert(settings, Faults)
        delayed, failed = (f"{share * 100:.6g} % of the" for share in (found.delay_share, found.abort_share))
        reasons = [f"{delayed} requests are delayed by {found.delay_s:g} s"] if found.delay_s else []
        if found.grpc_status:
            reasons.append(f"{failed} gRPC calls fail with {GRPC_STATUS_NAMES[found.grpc_status]}")
        elif found.status:
            reasons.append(f"{failed} requests fail with {found.status}")
        return reasons

    def explain(self, settings: Mapping[str, object], question: Question) -> Verdict:
        """Describe the faults. Only those of all requests are certain; others are drawn at random."""
        found = msgspec.convert(settings, Faults)
        reasons = self.describe(settings)
        is_failing = found.status > 0 and found.abort_share == 1
        return Verdict(is_admitted=not is_failing, status=found.status if is_failing else 0, reasons=tuple(reasons))


def parse_abort(text: str | None) -> tuple[int, int]:
    """Read `fault-abort`: a status or a gRPC status, each 0 if it is not meant. Raises ConfigurationError."""
    if text is None:
        return 0, 0
    word = text.strip()
    if word in GRPC_STATUSES:
        return 0, GRPC_STATUSES[word]
    if len(word) == 3 and word.isascii() and word.isdigit() and word[0] in "45":
        return int(word), 0
    raise build_annotation_error(ABORT, text, _RULE, known=GRPC_STATUSES)


def _read_share(annotations: Mapping[str, str], name: str) -> float:
    percent = read_annotation(annotations, name, _Percent)
    return 1.0 if percent is None else float(percent) / 100


class ControllerHalf:
    """What the controller loads."""

    @hookimpl
    def maesh_middleware_builders(self) -> Sequence[MiddlewareBuilder]:
        """Return the only builder of this plugin."""
        return [FaultBuilder()]
