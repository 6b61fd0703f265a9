"""Chooses the requests for which the mesh starts a trace, and their identifiers.

A request that is not chosen costs one subtraction: the number of requests until the next one that is chosen is drawn
from the geometric distribution, which chooses each request with the same probability and independently. The generator
is the one of the process, which Python seeds from the system, so identifiers of two workers differ.
"""

import random
from binascii import hexlify
from math import log
from typing import Final

from maesh_core.plugin import SkipCount

NEVER: Final = 1 << 60
"""More requests than there will be."""


class RatioSampler:
    """Chooses a share of all requests, from 0 to 1. `count` is the number of requests before the next chosen one.

    The proxy may count it down, too, for requests that need not be asked about.
    """

    def __init__(self, ratio: float) -> None:
        self.ratio = ratio
        self.count = SkipCount(self._draw())

    def __repr__(self) -> str:
        return f"<RatioSampler {self.ratio:g}>"

    def choose(self) -> bool:
        """Whether the next request is chosen."""
        if self.count.left > 0:
            self.count.left -= 1
            return False
        self.count.left = self._draw()
        return True

    def _draw(self) -> int:
        """Draw the number of requests before the next one that is chosen."""
        if self.ratio <= 0.0:
            return NEVER
        if self.ratio >= 1.0:
            return 0
        return min(NEVER, int(log(1.0 - random.random()) / log(1.0 - self.ratio)))  # noqa: S311 - not a secret


def build_trace_id(ratio: float) -> bytes:
    """Return a new trace id, as 32 hexadecimal digits, for a trace that was chosen with this ratio.

    Its last 8 bytes are below the ratio's share of their range, as OpenTelemetry's sampler TraceIdRatioBased demands,
    so a participant of the trace that samples by its id and this ratio, or a higher one, decides alike.
    """
    last = (random.getrandbits(64) * int(ratio * (1 << 64))) >> 64
    number = (random.getrandbits(64) or 1) << 64 | (last or 1)
    return hexlify(number.to_bytes(16, "big"))


def build_span_id() -> bytes:
    """Return a new span id, as 16 hexadecimal digits."""
    return hexlify((random.getrandbits(64) or 1).to_bytes(8, "big"))
