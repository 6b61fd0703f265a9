"""Wraps the prose of Markdown pages at 120 columns; `make format` runs it.

Takes paths of pages and rewrites them. Only paragraphs and list items with a line that is too long are wrapped.
Tables, code, headings and generated parts stay as they are, and so does a word that is longer than a line.
"""

import re
import sys
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path

WIDTH = 120
ROOT = Path(__file__).resolve().parents[1]

_ITEM = re.compile(r"( *)([*+-]|\d+[.)]) +")
_FENCE = re.compile(r" *(```|~~~)")
_BEGIN, _END = re.compile(r"<!-- begin: "), re.compile(r"<!-- end: ")
_FIXED = re.compile(r"#|\||<!--| *\||!\[|\[[^\]]*\]: |    ")
"""Begins a line that is never wrapped: a heading, a table, a comment, an image, a link's definition, indented code."""
_CODE_SPAN = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)", re.DOTALL)
_BLOCK_MARK = re.compile(r" (?=([*+-]|\d+[.)]|#+|>)( |$))")
"""The space before a word that would begin a list, a heading or a quotation if it were the first of a line."""
_HARD_SPACE = "\0"


def wrap_page(text: str) -> str:
    """Wrap the prose of a page."""
    return "".join(f"{line}\n" for line in _wrap_lines(text.splitlines()))


def find_long_lines(text: str) -> list[str]:
    """Find the lines of prose that can be wrapped and are not."""
    wrapped = set(wrap_page(text).splitlines())
    return [line for line in text.splitlines() if len(line) > WIDTH and line not in wrapped]


def list_pages() -> list[Path]:
    """List the pages of the repository whose prose is wrapped."""
    patterns = ("*.md", "docs/*.md", "charts/*.md", "plugins/*/README.md", "examples/plugins/*/README.md")
    return [path for pattern in patterns for path in sorted(ROOT.glob(pattern))]


def _wrap_lines(lines: Iterable[str]) -> Iterator[str]:
    """Find the paragraphs and list items of a page, and wrap each."""
    block: list[str] = []
    fence = ""
    is_generated = False
    for line in lines:
        match = _FENCE.match(line)
        is_generated = (is_generated or _BEGIN.match(line) is not None) and _END.match(line) is None
        is_code = bool(fence or match)
        if match and not fence:
            fence = match[1]
        elif fence and line.strip() == fence:
            fence = ""
        begins_item = _ITEM.match(line) is not None
        is_fixed = is_code or is_generated or not line.strip() or (_FIXED.match(line) and not _continues(block))
        if is_fixed or begins_item:
            yield from _wrap_block(block)
            block = []
        if is_fixed:
            yield line
        else:
            block.append(line)
    yield from _wrap_block(block)


def _continues(block: list[str]) -> bool:
    """Say whether an indented line goes on with a list item's text."""
    return bool(block) and _ITEM.match(block[0]) is not None


def _wrap_block(block: list[str]) -> list[str]:
    if all(len(line) <= WIDTH for line in block):
        return block
    match = _ITEM.match(block[0])
    first = match[0] if match else re.match(" *", block[0])[0]  # type: ignore[index]
    rest = " " * len(first)
    prose = " ".join([block[0][len(first) :].strip(), *(line.strip() for line in block[1:])])
    prose = _CODE_SPAN.sub(lambda span: span[0].replace(" ", _HARD_SPACE), prose)
    prose = _BLOCK_MARK.sub(_HARD_SPACE, prose)
    lines = textwrap.wrap(prose, WIDTH - len(first), break_long_words=False, break_on_hyphens=False)
    return [f"{rest if index else first}{line}".replace(_HARD_SPACE, " ") for index, line in enumerate(lines)]


if __name__ == "__main__":
    for page in [Path(argument) for argument in sys.argv[1:]] or list_pages():
        before = page.read_text(encoding="utf-8")
        after = wrap_page(before)
        if after != before:
            page.write_text(after, encoding="utf-8")
