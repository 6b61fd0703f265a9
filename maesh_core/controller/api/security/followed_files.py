"""Follows files that may be replaced while the controller runs, such as a mounted Secret.

Takes the paths and what uses their contents; calls it again whenever a content differs. What cannot be read or used is
logged once, and the earlier contents stay in use.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from maesh_core.errors import StartupError

PAUSE_S = 10.0
"""Time between two looks. Kubernetes takes up to a minute to update a mounted Secret."""
LIMIT_BYTES = 4 * 1024 * 1024

Use = Callable[[Sequence[bytes]], None]
"""Uses the contents of the files; raises ValueError or OSError with a reason, and then changes nothing."""

_log = logging.getLogger(__name__)


class FollowedFiles:
    """Some files that are used together. `what` names them in errors, `flag` is the setting that names them."""

    __slots__ = ("_contents", "_failure", "_flag", "_paths", "_use", "_what")

    def __init__(self, what: str, paths: Sequence[str], use: Use, *, flag: str) -> None:
        self._what = what
        self._paths = tuple(map(Path, paths))
        self._use = use
        self._flag = flag
        self._contents: tuple[bytes, ...] = ()
        self._failure = ""

    def __repr__(self) -> str:
        return f"<FollowedFiles {self._what} {', '.join(map(str, self._paths))}>"

    def load(self) -> None:
        """Read and use the files for the first time; raises StartupError."""
        try:
            self._update()
        except (OSError, ValueError) as error:
            raise StartupError(f"{self._what} cannot be used ({self._flag}): {_describe(error)}") from error

    async def follow(self, pause: Callable[[float], Awaitable[None]]) -> None:
        """Look again and again, forever."""
        while True:
            await pause(PAUSE_S)
            self.look()

    def look(self) -> None:
        """Use the files again if a content differs; log a failure once."""
        try:
            has_changed = self._update()
        except (OSError, ValueError) as error:
            failure = _describe(error)
            if failure != self._failure:
                _log.error("%s cannot be used, so the earlier one stays in use: %s", self._what, failure)
            self._failure = failure
            return
        if has_changed:
            _log.info("%s was replaced", self._what)
        self._failure = ""

    def _update(self) -> bool:
        contents = tuple(map(_read, self._paths))
        if contents == self._contents:
            return False
        self._use(contents)
        self._contents = contents
        return True


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(LIMIT_BYTES + 1)
    if len(content) > LIMIT_BYTES:
        raise ValueError(f"{path} is larger than {LIMIT_BYTES} bytes")
    return content


def _describe(error: OSError | ValueError) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__
