"""Texts of clients, escaped for a log that is read line by line; they are remembered, because they repeat.

The result is printable ASCII that can stand in a JSON string: quotes and backslashes are escaped, and every other
character outside of printable ASCII is `\\uXXXX`. A byte that is not UTF-8 becomes the text `\\xff`, itself escaped.
"""

import re
from collections.abc import Callable
from typing import Any, Final

LINE_LIMIT_BYTES: Final = 4096
"""The longest line, with its line feed: a pipe passes writes of this size on whole (PIPE_BUF), so that the lines of
several workers never mix."""
TEXT_LIMIT: Final = 1024
"""Longer texts are cut; their escaped form has at most this many characters, and ends with `...`."""
SHORT_TEXT_LIMIT: Final = 64
"""The same for a line that would be too long otherwise."""
REMEMBERED_TEXTS: Final = 512
REMEMBERED_LENGTH: Final = 256
"""Bounds of the memory for texts that are remembered: clients choose them."""
REMEMBERED_PIECES: Final = 1024
PIECE_LIMIT: Final = 1024
"""The same for pieces of lines."""
REMEMBERED_CLIENTS: Final = 4096
"""The same for clients."""

_CUT = "..."
_replace_unsafe = re.compile(r'[^ -~]|["\\]').sub


class Texts(dict[bytes | str, str]):
    """The escaped form of each text: `texts[text]`. Use one object for bytes, and one for names of the mesh."""

    __slots__ = ("_limit",)

    def __init__(self, limit: int = TEXT_LIMIT) -> None:
        super().__init__()
        self._limit = limit

    def __repr__(self) -> str:
        return f"<Texts {len(self)} remembered>"

    def __missing__(self, text: bytes | str) -> str:
        """Escape a text that is not remembered."""
        length = len(text)
        plain = text if isinstance(text, str) else text.decode("utf-8", "backslashreplace")
        escaped = plain if length <= self._limit and is_safe(plain) else escape(text, self._limit)
        if length <= REMEMBERED_LENGTH:
            if len(self) >= REMEMBERED_TEXTS:
                self.clear()
            self[text] = escaped
        return escaped


class Pieces(dict[tuple[Any, ...], str]):
    """Pieces of lines, by the values that they show: `pieces[values]` calls `build(*values)` for a new one."""

    __slots__ = ("_build",)

    def __init__(self, build: Callable[..., str]) -> None:
        super().__init__()
        self._build = build

    def __repr__(self) -> str:
        return f"<Pieces {len(self)} remembered>"

    def __missing__(self, values: tuple[Any, ...]) -> str:
        """Build a piece that is not remembered."""
        piece = self._build(*values)
        if len(piece) <= PIECE_LIMIT and all(map(_is_short, values)):
            if len(self) >= REMEMBERED_PIECES:
                self.clear()
            self[values] = piece
        return piece


class Clients(dict[str, str]):
    """Pieces of lines about clients, by their addresses: `clients[address]` calls `build(address)` for a new one."""

    __slots__ = ("_build",)

    def __init__(self, build: Callable[[str], str]) -> None:
        super().__init__()
        self._build = build

    def __repr__(self) -> str:
        return f"<Clients {len(self)} remembered>"

    def __missing__(self, address: str) -> str:
        """Build a piece that is not remembered."""
        if len(self) >= REMEMBERED_CLIENTS:
            self.clear()
        piece = self[address] = self._build(address)
        return piece


def _is_short(value: object) -> bool:
    """Whether a value of a piece may be remembered; the piece itself has only the beginning of a long one."""
    return not isinstance(value, bytes | str) or len(value) <= PIECE_LIMIT


def is_safe(text: str) -> bool:
    """Whether a text needs no escape. A regular expression would need four times as long."""
    return text.isascii() and text.isprintable() and '"' not in text and "\\" not in text


def escape(text: bytes | str, limit: int = TEXT_LIMIT) -> str:
    """Escape a text, and cut it so that the result has at most `limit` characters."""
    is_cut = len(text) > limit
    plain = text[:limit]
    if isinstance(plain, bytes):
        plain = plain.decode("utf-8", "backslashreplace")
    escaped = plain if is_safe(plain) else _replace_unsafe(_escape_character, plain)
    if not is_cut and len(escaped) <= limit:
        return escaped
    return _cut(plain, limit - len(_CUT)) + _CUT


def _cut(plain: str, limit: int) -> str:
    """Escape as many characters as fit: an escape sequence is never cut."""
    kept: list[str] = []
    for character in plain:
        escaped = _replace_unsafe(_escape_character, character)
        limit -= len(escaped)
        if limit < 0:
            break
        kept.append(escaped)
    return "".join(kept)


def _escape_character(match: "re.Match[str]") -> str:
    code = ord(match[0])
    if code in (0x22, 0x5C):
        return f"\\{match[0]}"
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
