"""The authority in a folder, for controllers outside of Kubernetes, and for mounted Secrets. Implements AuthorityStore.

All files are changed together: the new contents are first written as one file, which is renamed and then applied under
a lock. A controller that ends in the middle leaves this file, and the next one applies it. Other users must not be able
to read keys. The files may also be changed by hand, which is not atomic: readers check that they belong together.
"""

import asyncio
import errno
import fcntl
import hashlib
import logging
import os
import stat
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from maesh_mtls.controller.authority.stores import (
    FILES,
    LIMIT_BYTES,
    SECRET_FILES,
    StoreConflictError,
    Stored,
    StoreError,
    StoreReadOnlyError,
)

ROTATION: Final = "rotation.json"
PENDING: Final = ".maesh-pending"
"""A change that is being applied."""
_READ_ONLY: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
LOOK_S: Final = 5.0
"""Time between two looks at the files, while they are watched."""

_log = logging.getLogger(__name__)


class _Change(msgspec.Struct, frozen=True):
    """The content of the file of a change; None removes a file."""

    files: dict[str, bytes | None]


class FolderStore:
    """The authority in a folder, which is created when it is first written.

    While it is watched, `report` gets what keeps it from being read, and None when that is over.
    """

    __slots__ = ("_folder", "_pause", "_problem", "_report")

    def __init__(
        self,
        folder: Path,
        *,
        report: Callable[[str | None], None] = lambda _: None,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._folder = folder
        self._report = report
        self._pause = pause
        self._problem: str | None = None

    def __repr__(self) -> str:
        return f"<FolderStore {self._folder}>"

    @property
    def place(self) -> str:
        """Name the folder."""
        return str(self._folder)

    async def load(self) -> Stored:
        """Read the files. Raises StoreError."""
        return await asyncio.to_thread(self.load_now)

    async def write(self, files: Mapping[str, bytes | None], rotation: str, *, version: str) -> str:
        """Change the named files together, unless the folder has another version. Raises StoreError."""
        return await asyncio.to_thread(self.write_now, files, rotation, version=version)

    async def watch(self) -> AsyncGenerator[Stored, None]:
        """Yield the content now and after each change, forever."""
        version: str | None = None
        while True:
            try:
                found = await self.load()
            except StoreError as error:
                self._note(str(error))
            else:
                self._note(None)
                if found.version != version:
                    version = found.version
                    yield found
            await self._pause(LOOK_S)

    def _note(self, problem: str | None) -> None:
        if problem == self._problem:
            return
        self._problem = problem
        if problem is None:
            _log.warning("the authority in %s can be read again", self._folder)
        else:
            _log.error("the authority cannot be read: %s", problem)
        self._report(problem)

    def load_now(self) -> Stored:
        """Read the files; blocks. Raises StoreError."""
        try:
            with self._lock():
                return self._read()
        except FileNotFoundError:
            return Stored()
        except OSError as error:
            raise StoreError(f"{self._folder}: {error.strerror}") from error

    def write_now(self, files: Mapping[str, bytes | None], rotation: str, *, version: str) -> str:
        """Change the files; blocks."""
        changes = {**files, ROTATION: rotation.encode() or None}
        if unknown := set(files) - set(FILES):
            raise StoreError(f"{self._folder}: {', '.join(sorted(unknown))} is no file of the authority")
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._lock():
                if self._read().version != version:
                    raise StoreConflictError(f"{self._folder} has been changed meanwhile")
                _write_new(self._folder / PENDING, msgspec.json.encode(_Change(changes)), mode=0o600)
                self._finish_change()
                return self._read().version
        except OSError as error:
            if error.errno in _READ_ONLY:
                raise StoreReadOnlyError(f"{self._folder}: {error.strerror}") from error
            raise StoreError(f"{self._folder}: {error.strerror}") from error

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Keep other controllers out; works in folders that cannot be written, too."""
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _read(self) -> Stored:
        self._finish_change()
        found = {name: content for name in (*FILES, ROTATION) if (content := self._read_file(name)) is not None}
        if not found:
            return Stored()
        version = hashlib.sha256(msgspec.json.encode(found, order="sorted")).hexdigest()
        rotation = found.pop(ROTATION, b"").decode("utf-8", "replace")
        return Stored(files=found, rotation=rotation, version=version)

    def _read_file(self, name: str) -> bytes | None:
        try:
            with (self._folder / name).open("rb") as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                content = file.read(LIMIT_BYTES + 1)
        except FileNotFoundError:
            return None
        if name in SECRET_FILES and mode & 0o077:
            path = self._folder / name
            raise StoreError(f"other users can read {path} (mode {mode:04o}); chmod 600 it")
        if len(content) > LIMIT_BYTES:
            raise StoreError(f"{self._folder / name} is over {LIMIT_BYTES} bytes")
        return content

    def _finish_change(self) -> None:
        """Apply a change that was decided."""
        pending = self._folder / PENDING
        try:
            change = msgspec.json.decode(pending.read_bytes(), type=_Change)
        except FileNotFoundError:
            return
        except msgspec.DecodeError:
            raise StoreError(f"{pending} is damaged; remove it if the other files are right") from None
        for name, content in change.files.items():
            path = self._folder / name
            if content is None:
                path.unlink(missing_ok=True)
            else:
                _write_new(path, content, mode=0o644 if name not in SECRET_FILES else 0o600)
        pending.unlink()


def _write_new(path: Path, content: bytes, *, mode: int) -> None:
    """Write a file under another name, and rename it, so that it is never incomplete."""
    unfinished = path.with_name(f".{path.name.lstrip('.')}.{os.getpid()}")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
