"""The file with the bearer tokens that the controller's API accepts, outside of clusters or beside their tokens.

Takes the file, with a name and a token in each line. Of the tokens, only hashes are kept, besides the first one. A
token whose name is `node/NAME` is that of a node, which can only pull, and only under this name.
"""

import hashlib
from collections.abc import Mapping, Sequence

from maesh_core.controller.api.security.followed_files import FollowedFiles

FLAG = "--api-tokens"
LEAST_CHARACTERS = 16
"""A shorter token could be guessed."""


class BearerTokens:
    """The current tokens. `own_token` is that of the first line, with which controllers ask each other."""

    __slots__ = ("_names", "files", "own_token")

    def __init__(self, path: str) -> None:
        self._names: Mapping[bytes, str] = {}
        self.own_token = ""
        self.files = FollowedFiles("the file of tokens", (path,), self._use, flag=FLAG)
        self.files.load()

    def __repr__(self) -> str:
        return f"<BearerTokens {len(self._names)} tokens>"

    def find_name(self, token: str) -> str | None:
        """Find the name of a token; None if the file does not have it."""
        return self._names.get(_hash(token))

    def _use(self, contents: Sequence[bytes]) -> None:
        entries = parse_tokens(contents[0])
        self._names = {_hash(token): name for name, token in entries}
        self.own_token = entries[0][1]


def parse_tokens(content: bytes) -> list[tuple[str, str]]:
    """Parse lines of `NAME TOKEN`; empty lines and those that begin with `#` are skipped. Raises ValueError.

    A name may have several tokens, so that one can be replaced by another.
    """
    entries: list[tuple[str, str]] = []
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 2:
            raise ValueError(f"line {number} is not a name and a token")
        if len(words[1]) < LEAST_CHARACTERS or not words[1].isascii():
            raise ValueError(f"line {number}: a token has at least {LEAST_CHARACTERS} characters, all ASCII")
        entries.append((words[0], words[1]))
    if not entries:
        raise ValueError("it has no token")
    if len({token for _, token in entries}) < len(entries):
        raise ValueError("it has the same token twice")
    return entries


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()
