"""Parses a Corefile as CoreDNS does: words, comments, and top-level server blocks, with their positions.

Takes text; returns a Corefile, or raises ClusterDnsError for text that must not be extended. Follows the lexer and
parser of coredns/caddy (caddyfile/lexer.go, parse.go), with their peculiarities. Knows nothing of the mesh.
"""

import re
from collections.abc import Iterator, Sequence

import msgspec

from maesh_core.errors import ClusterDnsError

_SPACE = r"\t\n\v\f\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"  # Go's unicode.IsSpace
_PIECE = re.compile(
    rf'[{_SPACE}]+|(?P<comment>\#[^\n]*)|"(?P<quoted>(?:\\.|[^"\\])*)(?P<close>"?)|(?P<word>(?:[^{_SPACE}]|\r)+)',
    re.DOTALL,
)
_ESCAPED = re.compile(r'\\"')
_TRANSPORT = re.compile(r"(dns|tls|quic|grpc|https|https3|unix)://")
_PORT = re.compile(r":(\d+|\{\$[^{}]+\}|\{%[^{}]+%\})$", re.ASCII)
"""A number, or an environment variable that CoreDNS replaces."""
_BYTE_ORDER_MARK = "\ufeff"


class Token(msgspec.Struct, frozen=True):
    """A word, or a comment with its `#`. `line` counts from 1, `last_line` is the line where a quoted word ends."""

    text: str
    start: int
    end: int
    line: int
    last_line: int


class ServerBlock(msgspec.Struct, frozen=True):
    """A top-level block in braces: a server, or a snippet, whose key is in parentheses."""

    keys: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    start: int
    end: int

    @property
    def words(self) -> tuple[str, ...]:
        """All words of all lines."""
        return tuple(word for line in self.lines for word in line)

    @property
    def zones(self) -> tuple[str, ...]:
        """The served zones, in lower case and without a final dot; the root is empty."""
        return tuple(read_address(key)[0] for key in self.keys if not key.startswith("("))


class Corefile(msgspec.Struct, frozen=True):
    """A parsed Corefile. `imports` are the positions of top-level import lines, `patterns` the paths that they name."""

    text: str
    blocks: tuple[ServerBlock, ...]
    imports: tuple[Token, ...]
    patterns: tuple[str, ...]
    comments: tuple[Token, ...]


def read_address(key: str) -> tuple[str, str]:
    """Split a server block's key into zone and port; the port is empty if none is named."""
    address = _TRANSPORT.sub("", key, count=1) if _TRANSPORT.match(key) else key
    port = _PORT.search(address)
    zone = address[: port.start()] if port else address
    return zone.removesuffix(".").lower(), port[1] if port else ""


def parse_corefile(text: str) -> Corefile:
    """Parse a Corefile. Raises ClusterDnsError for unbalanced braces and quotes, and for a server without braces."""
    words: list[Token] = []
    comments: list[Token] = []
    for is_comment, token in _split(text):
        (comments if is_comment else words).append(token)
    blocks, imports, patterns = [], [], []
    place = 0
    while place < len(words):
        if words[place].text == "import":
            imports.append(words[place])
            end = _find_line_end(words, place)
            patterns += [word.text for word in words[place + 1 : end]]
            place = end
        else:
            block, place = _parse_block(words, place)
            blocks.append(block)
    return Corefile(text, tuple(blocks), tuple(imports), tuple(patterns), tuple(comments))


def _split(text: str) -> Iterator[tuple[bool, Token]]:
    line = 1
    place = 1 if text.startswith(_BYTE_ORDER_MARK) else 0
    while (match := _PIECE.match(text, place)) is not None:
        if match["quoted"] is not None and not match["close"]:
            raise ClusterDnsError(f"line {line}: a quote is never closed")
        last_line = line + match[0].count("\n")
        if match["comment"] is not None:
            yield True, Token(match["comment"], match.start(), match.end(), line, line)
        elif match["quoted"] is not None:
            yield False, Token(_ESCAPED.sub('"', match["quoted"]), match.start(), match.end(), line, last_line)
        elif match["word"] is not None:
            # A # within a word hides the following characters up to the next space, not up to the end of the line.
            word = match["word"].replace("\r", "").partition("#")[0]
            yield False, Token(word, match.start(), match.end(), line, line)
        line, place = last_line, match.end()


def _find_line_end(words: Sequence[Token], place: int) -> int:
    """Find the first word of the next line."""
    place += 1
    while place < len(words) and words[place].line == words[place - 1].last_line:
        place += 1
    return place


def _parse_block(words: Sequence[Token], first: int) -> tuple[ServerBlock, int]:
    """Parse a server block; return it and the position after it."""
    opening = _find_opening(words, first)
    depth = 0
    for place in range(opening, len(words)):
        depth += {"{": 1, "}": -1}.get(words[place].text, 0)
        if depth == 0:
            keys = tuple(key for word in words[first:opening] if (key := word.text.removesuffix(",")))
            lines = tuple(_split_lines(words[opening + 1 : place]))
            return ServerBlock(keys, lines, words[first].start, words[place].end), place + 1
    raise ClusterDnsError(f"line {words[opening].line}: a brace is never closed")


def _split_lines(words: Sequence[Token]) -> Iterator[tuple[str, ...]]:
    place = 0
    while place < len(words):
        end = _find_line_end(words, place)
        yield tuple(word.text for word in words[place:end])
        place = end


def _find_opening(words: Sequence[Token], first: int) -> int:
    """Find the opening brace of a block; its keys are on one line, or continue after a comma."""
    before: Token | None = None
    for place in range(first, len(words)):
        word = words[place]
        if word.text == "}":
            raise ClusterDnsError(f"line {word.line}: a brace closes what was never opened")
        if word.text == "{":
            if before is None:
                raise ClusterDnsError(f"line {word.line}: a brace opens a block that has no name")
            return place
        if before is not None and word.line > before.last_line and not before.text.endswith(","):
            break
        before = word
    raise ClusterDnsError(f"line {words[first].line}: {words[first].text[:60]!r} is a server without braces")
