"""Lines of text in parts that have a style: what every view of `maesh top` is made of.

Takes any text, which may come from the cluster, and keeps only printable characters. A style is a meaning, such as
`bad`; live.py maps it to colours, and printing.py ignores it.
"""

import textwrap
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, TypeAlias

from rich.cells import cell_len, set_cell_size

from maesh_core.process.printable import escape_unprintable

Style = Literal["", "title", "head", "bad", "warn", "dim", "selected", "selected bad"]
ELLIPSIS = "…"
GAP = "  "


class Span(NamedTuple):
    """A part of a line. Build it with `span`, which makes the text safe for a terminal."""

    text: str
    style: Style = ""

    @property
    def width(self) -> int:
        """Columns on a terminal: wide characters take two."""
        return cell_len(self.text)


Line: TypeAlias = Sequence[Span]


def span(text: str, style: Style = "") -> Span:
    """Build a part of a line from untrusted text; unprintable characters are escaped."""
    return Span(escape_unprintable(text), style)


def fit(part: Span, width: int, *, is_right: bool = False) -> Span:
    """Pad or cut a part to this width; a cut text ends with an ellipsis."""
    missing = width - part.width
    if missing < 0:
        return part._replace(text=set_cell_size(part.text, width - 1) + ELLIPSIS if width > 0 else "")
    return part._replace(text=" " * missing + part.text if is_right else part.text + " " * missing)


def cut_line(line: Line, width: int) -> Line:
    """Cut a line to this width."""
    found: list[Span] = []
    for part in line:
        if part.width > width:
            return [*found, fit(part, width)]
        found.append(part)
        width -= part.width
    return found


def join_plain(line: Line) -> str:
    """Join the texts of a line, without styles."""
    return "".join(part.text for part in line).rstrip()


def lay_out_table(head: Sequence[str], rows: Iterable[Sequence[Span]], *, right: Iterable[int] = ()) -> list[Line]:
    """Lay out a table whose columns are as wide as their widest cell; columns in `right` are aligned right."""
    every = [tuple(span(title, "head") for title in head), *rows]
    widths = [max(row[column].width for row in every) for column in range(len(head))]
    aligned = frozenset(right)
    return [
        [
            part
            for column, cell in enumerate(row)
            for part in (
                fit(cell, widths[column], is_right=column in aligned),
                *([Span(GAP)] if column < len(row) - 1 else []),
            )
        ]
        for row in every
    ]


def wrap_line(line: Line, width: int) -> list[Line]:
    """Wrap a line of one part, such as a long message; cut any other line."""
    if len(line) != 1 or line[0].width <= width:
        return [cut_line(line, width)]
    return [cut_line([line[0]._replace(text=text)], width) for text in textwrap.wrap(line[0].text, max(width, 1))]
