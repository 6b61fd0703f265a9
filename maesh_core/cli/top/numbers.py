"""Short texts for measured values, each at most eight characters wide for usual values.

Takes numbers in seconds, bytes and shares; returns text. None means that nothing was measured. Pure.
"""

import math

NOTHING = "-"
_LARGE = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_LARGEST = 1e15
_LIMIT = 1e300
"""JSON has larger whole numbers, which cannot be converted to a float."""


def render_count(value: float) -> str:
    """Render a count: exact up to 9999, then with k, M, G, T."""
    if value >= _LARGEST:
        return f"{min(value, _LIMIT):.0e}"
    for factor, unit in _LARGE:
        if value >= factor * (10 if unit == "k" else 1):
            return f"{value / factor:.1f}{unit}"
    return f"{value:.0f}"


def render_rate(value: float) -> str:
    """Render a number per second; a small one keeps two digits, so that rare events do not look like none."""
    if 0 < value < 10:
        return f"{max(value, 0.01):.2f}/s"
    return f"{value:.1f}/s" if 0 < value < 1000 else f"{render_count(value)}/s"


def render_share(value: float | None) -> str:
    """Render a share between 0 and 1 as per cent. It is rounded down: only 1 is `100%`."""
    if value is None:
        return NOTHING
    if value >= 1:
        return "100%"
    return f"{math.floor(max(value, 0.0) * 10_000) / 100:.2f}".rstrip("0").rstrip(".") + "%"


def render_weight(value: float | None) -> str:
    """Render a part of the traffic between 0 and 1 as per cent, rounded."""
    return NOTHING if value is None else f"{round(value * 100, 2):g}%"


def render_duration(seconds: float | None) -> str:
    """Render a duration with three digits or fewer."""
    if seconds is None:
        return NOTHING
    milliseconds = seconds * 1000
    if milliseconds < 1:
        return f"{milliseconds:.2f}ms"
    if milliseconds < 10:
        return f"{milliseconds:.1f}ms"
    if seconds < 1:
        return f"{milliseconds:.0f}ms"
    return f"{seconds:.2f}s" if seconds < 10 else f"{render_count(seconds)}s"


def render_bytes(value: float) -> str:
    """Render a number of bytes."""
    if value >= _LARGEST:
        return f"{min(value, _LIMIT):.0e} B"
    for factor, unit in _LARGE:
        if value >= factor:
            return f"{value / factor:.1f} {unit}B"
    return f"{value:.0f} B"
