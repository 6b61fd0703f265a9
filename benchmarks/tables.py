"""Tables in Markdown, and how figures are written in them."""

from collections.abc import Iterable, Sequence


def render_row(cells: Iterable[object]) -> str:
    """Render one row of a table."""
    return f"| {' | '.join(map(str, cells))} |"


def render_rows(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Render a table."""
    return "\n".join([render_row(head), render_row("---" for _ in head), *map(render_row, rows)])


def render_ratio(value: float, reference: float) -> str:
    """Render a value as a multiple of another."""
    return f"{value / reference:.2f}" if reference else "–"


def render_ms(value_us: float) -> str:
    """Render microseconds as milliseconds."""
    return f"{value_us / 1000:.2f} ms"
