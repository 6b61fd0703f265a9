"""Plain tables for a terminal, without lines and colours."""

from collections.abc import Sequence

from maesh_core.process.printable import escape_unprintable


def render_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Render a table. A column is as wide as its widest cell; the last column is not padded."""
    lines = [[escape_unprintable(cell) for cell in line] for line in (head, *rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
