"""Decodes what a terminal sends into names of keys.

Takes bytes in any pieces, returns keys: a printable character as itself, others by name (`up`, `enter`, `escape`).
Unknown sequences are dropped. A lone ESC byte may begin a sequence, so it stays pending until `flush`.
"""

import codecs
import re
from collections.abc import Iterator

ESCAPE_WAIT_S = 0.05
"""How long to wait for the rest of a sequence; terminals send it at once, but a network may split it."""
SEQUENCE_LIMIT = 32

_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|O[ -~])")
_PARTIAL = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|O)?")
_NAMED_SEQUENCES = {
    **{
        f"\x1b{start}{end}": name
        for start in "[O"
        for end, name in zip("ABHF", ("up", "down", "home", "end"), strict=True)
    },
    **{f"\x1b[{number}~": name for number, name in ((1, "home"), (4, "end"), (5, "page-up"), (6, "page-down"))},
    "\x1b[7~": "home",
    "\x1b[8~": "end",
}
_NAMED = {
    "\r": "enter",
    "\n": "enter",
    "\x7f": "backspace",
    "\x08": "backspace",
    "\x15": "clear",
    "\x0c": "redraw",
    "\x04": "q",
}


class KeyDecoder:
    """Turns bytes into keys."""

    __slots__ = ("_decoder", "_pending")

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pending = ""

    def __repr__(self) -> str:
        return f"<KeyDecoder pending={self._pending!r}>"

    @property
    def is_pending(self) -> bool:
        """Whether a sequence has begun, so that `flush` must be called after ESCAPE_WAIT_S without further bytes."""
        return bool(self._pending)

    def feed(self, data: bytes) -> list[str]:
        """Decode further bytes."""
        self._pending += self._decoder.decode(data)
        return list(self._read())

    def flush(self) -> list[str]:
        """Decode what is pending as complete: a lone ESC is the key Escape."""
        pending, self._pending = self._pending, ""
        return ["escape"] if pending == "\x1b" else []

    def _read(self) -> Iterator[str]:
        while self._pending:
            if self._pending[0] != "\x1b":
                character, self._pending = self._pending[0], self._pending[1:]
                name = _NAMED.get(character, character)
                if len(name) > 1 or name.isprintable():
                    yield name
                continue
            found = _SEQUENCE.match(self._pending)
            if found:
                self._pending = self._pending[found.end() :]
                name = _NAMED_SEQUENCES.get(found[0], "")
                if name:
                    yield name
            elif _PARTIAL.fullmatch(self._pending) and len(self._pending) < SEQUENCE_LIMIT:
                return
            else:  # ESC before another key, such as Escape that is followed quickly by a letter
                self._pending = self._pending[1:]
                yield "escape"
