"""The comparison as a picture: CPU per request of every proxy, case by case, and p99 at the same offered rate.

Takes medians; returns an SVG of bars that reads on light and dark pages. Shorter is better everywhere. No dependencies.
"""

from collections.abc import Mapping
from typing import Any, Protocol
from xml.sax.saxutils import escape

WIDTH, LEFT, BAR, GAP, TITLE = 860, 120, 14, 4, 46
PANELS_IN_A_ROW = 2
CASES = ("small", "varied", "paced", "down-4k", "up-4k", "down-1m", "conn-new", "stamped")
STYLE = """text{font:12px system-ui,sans-serif;fill:#57606a}
.t{font-weight:600;fill:#24292f}.b{fill:#afb8c1}.m{fill:#0969da}
@media(prefers-color-scheme:dark){text{fill:#9198a1}.t{fill:#f0f6fc}.b{fill:#4a525c}.m{fill:#4493f8}}"""


class Medians(Protocol):
    """Where the figures come from."""

    cases: list[dict[str, Any]]

    def list_names(self, case: str) -> list[str]:
        """List the proxies that a case was measured with."""
        ...

    def get(self, case: str, proxy: str, figure: str) -> float:
        """Get the median of one figure."""
        ...

    def is_held(self, case: str, proxy: str) -> bool:
        """Return whether a proxy kept up with the rate it was offered."""
        ...


def render_chart(figures: Medians) -> str:
    """Render the picture."""
    cases = [case for name in CASES for case in figures.cases if case["name"] == name]
    height = TITLE + max((len(figures.list_names(case["name"])) for case in cases), default=0) * (BAR + GAP) + 16
    panel_width = WIDTH // PANELS_IN_A_ROW
    body = []
    for index, case in enumerate(cases):
        x, y = index % PANELS_IN_A_ROW * panel_width, 34 + index // PANELS_IN_A_ROW * height
        body.append(f'<g transform="translate({x},{y})">{render_panel(figures, case, panel_width)}</g>')
    rows = -(-len(cases) // PANELS_IN_A_ROW)
    total = 34 + rows * height
    title = "One core each, same machine, same run. Shorter is better."
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {total}" width="{WIDTH}" role="img" '
        f'aria-label="Maesh beside its peers"><style>{STYLE}</style>'
        f'<text x="8" y="18">{title}</text>{"".join(body)}</svg>\n'
    )


def render_panel(figures: Medians, case: Mapping[str, Any], width: int) -> str:
    """Render the bars of one case, on a scale of their own that starts at zero."""
    name, is_paced = case["name"], case["rate_share"] > 0
    figure = "p99_us" if is_paced else "cpu_us_per_request"
    shown = [proxy for proxy in figures.list_names(name) if not is_paced or figures.is_held(name, proxy)]
    values = {proxy: figures.get(name, proxy, figure) for proxy in shown}
    measured = "p99" if is_paced else "CPU per request"
    titles = f'<text class="t" x="8" y="16">{escape(case["title"])}</text><text x="8" y="32">{measured}</text>'
    return titles + "".join(
        render_bar(proxy, values.get(proxy), longest=max(values.values(), default=1.0), row=row, width=width)
        for row, proxy in enumerate(figures.list_names(name))
    )


def render_bar(name: str, value: float | None, *, longest: float, row: int, width: int) -> str:
    """Render one proxy's bar with its name and figure."""
    y, room = TITLE - 4 + row * (BAR + GAP), width - LEFT - 76
    label = f'<text x="{LEFT - 6}" y="{y + 11}" text-anchor="end">{escape(name)}</text>'
    if value is None:
        return label + f'<text x="{LEFT + 4}" y="{y + 11}">cannot hold the rate</text>'
    length = max(1.0, value / max(longest, 1e-9) * room)
    style = "m" if name == "maesh" else "b"
    bar = f'<rect class="{style}" x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2"/>'
    return f'{label}{bar}<text x="{LEFT + length + 5:.1f}" y="{y + 11}">{render_us(value)}</text>'


def render_us(value: float) -> str:
    """Render microseconds so that they can be read at a glance."""
    return f"{value / 1000:.1f} ms" if value >= 1000 else f"{value:.0f} µs"
