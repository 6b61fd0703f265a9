"""Proves which node a request comes from, by a token in a file of the controller.

A line of the file is `NODE TOKEN`. Empty lines and those that begin with `#` are ignored. A node may have several
tokens, so that one can be replaced without a gap; a token belongs to one node. The file is read again when it changes.
Other users must not be able to read it. A file that cannot be used proves nothing.
"""

import hashlib
import hmac
import os
import stat
from pathlib import Path
from typing import NamedTuple, Protocol

from maesh_core.plugin import ConfigurationError
from maesh_mtls.identity import is_node_name

SHORTEST_TOKEN = 16
"""Characters of a token, at least."""
LONGEST_TOKEN = 8192
"""Characters of a token, at most; those of Kubernetes have about 1,000."""
FILE_LIMIT_BYTES = 4 * 1024 * 1024


class ProofRefusedError(Exception):
    """A request is not from the node that it names. `status` is that of the answer, `reason` a label of the metric."""

    def __init__(self, status: int, reason: str, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.reason = reason


class Proof(Protocol):
    """Checks tokens."""

    async def check(self, token: str, node: str, source: str = "") -> None:
        """Return if the token is one of the node. `source` is the sender's address. Raises ProofRefusedError."""


class _Version(NamedTuple):
    """What differs when a file was changed or replaced."""

    device: int
    inode: int
    size: int
    modified_ns: int
    mode: int


class NodeTokens:
    """The tokens of a file. Implements `Proof`."""

    __slots__ = ("_nodes", "_path", "_version")

    def __init__(self, path: Path) -> None:
        self._path = path
        self._version: _Version | None = None
        self._nodes: dict[bytes, str] = {}

    def __repr__(self) -> str:
        return f"<NodeTokens {self._path}>"

    async def check(self, token: str, node: str, source: str = "") -> None:
        """Compare a token with all tokens, each in constant time. Raises ProofRefusedError."""
        try:
            self.load()
        except ConfigurationError as error:
            raise ProofRefusedError(503, "tokens", str(error)) from error
        digest = _digest(token)
        owner = ""
        for known, name in self._nodes.items():
            if hmac.compare_digest(known, digest):
                owner = name
        if not owner:
            raise ProofRefusedError(401, "token", "the token is unknown")
        if owner != node:
            raise ProofRefusedError(403, "node", "the token belongs to another node")

    def load(self) -> None:
        """Read the file if it has changed. Raises ConfigurationError, whose text contains no token."""
        try:
            with self._path.open("rb") as file:
                found = os.fstat(file.fileno())
                mode = stat.S_IMODE(found.st_mode)
                version = _Version(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, mode)
                if version == self._version:
                    return
                self._version, self._nodes = None, {}
                content = file.read(FILE_LIMIT_BYTES + 1)
        except OSError as error:
            self._version, self._nodes = None, {}
            raise ConfigurationError(f"mtls.tokens: {self._path}: {error.strerror}") from error
        if mode & 0o077:
            raise ConfigurationError(f"mtls.tokens: other users can read {self._path} (mode {mode:04o}); chmod 600 it")
        try:
            self._nodes = parse_tokens(content)
        except ValueError as error:
            raise ConfigurationError(f"mtls.tokens: {self._path}: {error}") from error
        self._version = version


def parse_tokens(content: bytes) -> dict[bytes, str]:
    """Return the node of each token, by the token's digest. Raises ValueError, which names the line."""
    if len(content) > FILE_LIMIT_BYTES:
        raise ValueError(f"it is over {FILE_LIMIT_BYTES} bytes")
    nodes: dict[bytes, str] = {}
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 2 or not is_node_name(words[0]):
            raise ValueError(f"line {number} is not NODE TOKEN")
        node, token = words
        if not SHORTEST_TOKEN <= len(token) <= LONGEST_TOKEN:
            raise ValueError(f"the token in line {number} does not have {SHORTEST_TOKEN} to {LONGEST_TOKEN} characters")
        if nodes.setdefault(_digest(token), node) != node:
            raise ValueError(f"the token in line {number} is already that of another node")
    return nodes


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
