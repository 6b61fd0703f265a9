"""The header fields RateLimit and RateLimit-Policy (draft-ietf-httpapi-ratelimit-headers-10).

Both are lists of structured fields (RFC 9651): an item for each limit, its name, with parameters. A bucket of tokens
has no window that ends. Its quota `q` is the burst, and `w` the time in which an empty bucket becomes full. `r` are the
tokens left, and `t` is the time until the bucket is full again, if nobody takes one.
"""

import math
from collections.abc import Sequence
from typing import Final

from maesh_ratelimit.settings import Limit

INTEGER_LIMIT: Final = 999_999_999_999_999
"""The largest integer of a structured field (RFC 9651 section 3.3.1)."""
_NEARLY: Final = 1e-6
"""Sums of fractions of tokens are not exact."""


def build_policy_field(limits: Sequence[Limit]) -> bytes:
    """Build the value of RateLimit-Policy."""
    return b", ".join(_render_policy(limit) for limit in limits)


def _render_policy(limit: Limit) -> bytes:
    window_s = _limit_seconds(limit.burst * (limit.period_s / limit.average))
    return b'"%b";q=%d;w=%d' % (limit.name.encode(), limit.burst, max(1, window_s))


def render_limit(limit: Limit, missing: float) -> bytes:
    """Render the item of a limit in RateLimit; `missing` are the tokens that the client's bucket lacks to be full."""
    left = max(0, math.floor(limit.burst - missing + _NEARLY))
    full_in_s = _limit_seconds(missing * (limit.period_s / limit.average))
    return b'"%b";r=%d;t=%d' % (limit.name.encode(), left, full_in_s)


def _limit_seconds(seconds: float) -> int:
    return math.ceil(seconds - _NEARLY) if seconds < INTEGER_LIMIT else INTEGER_LIMIT
