"""The controller's half: annotations to the settings of one service's rate limit, or an error on that service."""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated

from msgspec import Meta

from maesh_core.plugin import (
    MiddlewareBuilder,
    PositiveDuration,
    ServiceNode,
    Stage,
    build_annotation_error,
    hookimpl,
    read_annotation,
)
from maesh_ratelimit.settings import Limit, ServiceLimits

AVERAGE, BURST, PERIOD, SOURCE = "ratelimit-average", "ratelimit-burst", "ratelimit-period", "ratelimit-source"
_Count = Annotated[int, Meta(ge=1, le=10**9)]
_SOURCE = re.compile(r"ip|host|header:[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A header's name is a token (RFC 9110 section 5.6.2)."""


class RateLimitBuilder:
    """Builds a service's rate limit from its annotations."""

    kind = "ratelimit"
    stage = Stage.LIMIT
    annotations: tuple[str, ...] = (AVERAGE, BURST, PERIOD, SOURCE)

    def build_settings(self, annotations: Mapping[str, str], service: ServiceNode) -> ServiceLimits | None:
        """Read the annotations; a missing average is the burst, a missing burst the average, None without any."""
        if not annotations:
            return None
        average = read_annotation(annotations, AVERAGE, _Count)
        burst = read_annotation(annotations, BURST, _Count)
        either = average or burst
        if either is None:
            name, text = next(iter(annotations.items()))
            raise build_annotation_error(name, text, f"has no effect without {AVERAGE} or {BURST}")
        source = annotations.get(SOURCE, "ip")
        if not _SOURCE.fullmatch(source):
            raise build_annotation_error(SOURCE, source, "is not one of ip, host, header:NAME")
        limit = Limit(
            name="default",
            average=either,
            burst=burst or either,
            period_s=read_annotation(annotations, PERIOD, PositiveDuration) or 1.0,
            sources=(source.lower(),),
        )
        return ServiceLimits(limits=(limit,))


class ControllerHalf:
    """What the controller loads."""

    @hookimpl
    def maesh_middleware_builders(self) -> Sequence[MiddlewareBuilder]:
        """Return the only builder of this plugin."""
        return [RateLimitBuilder()]
