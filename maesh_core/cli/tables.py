"""Plain tables for a terminal: columns as wide as their widest cell, no lines, no colour."""

from collections.abc import Sequence

from maesh_core.process.printable import escape_unprintable


def render_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Render a table; a column's width is that of its widest cell, the last one is left ragged."""
    lines = [[escape_unprintable(cell) for cell in line] for line in (head, *rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
