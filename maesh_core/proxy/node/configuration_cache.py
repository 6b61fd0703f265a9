"""The last good configuration on disk, for a start while the controller is away.

Takes a file's path and whole configurations. The file is written whole and renamed into place, readable by its owner
alone; its first line says what it is, so that a file that is cut, changed, of another controller or of somebody else is
never taken for a configuration. Does its I/O in threads.
"""

import asyncio
import contextlib
import hashlib
import logging
import os
import tempfile
from pathlib import Path

import msgspec

from maesh_core.proxy.network.sockets import describe_reason
from maesh_core.proxy.node.fetch import BODY_LIMIT_BYTES

FORMAT = "maesh configuration 1"
_LINE_LIMIT_BYTES = 4096

logger = logging.getLogger(__name__)


class _Line(msgspec.Struct, frozen=True):
    """The first line: what the rest is."""

    format: str
    endpoint: str
    sha256: str


class CacheError(Exception):
    """The file is not what it should be; the text says how."""


class ConfigurationCache:
    """One file. `endpoint` names the controller that the configuration is from."""

    __slots__ = ("_endpoint", "_has_failed", "_is_foreign", "_path")

    def __init__(self, path: Path, *, endpoint: str) -> None:
        self._path = path
        self._endpoint = endpoint
        self._is_foreign = False
        self._has_failed = False

    def __repr__(self) -> str:
        """Show the file."""
        return f"<ConfigurationCache {self._path}>"

    async def load(self) -> bytes | None:
        """Read the configuration; None if there is none that may be used, which is logged."""
        try:
            return await asyncio.to_thread(self._read)
        except FileNotFoundError:
            return None
        except OSError as error:
            logger.error("configuration cache %s cannot be read: %s", self._path, describe_reason(error))
        except CacheError as error:
            logger.error("configuration cache %s is ignored: %s", self._path, error)
        return None

    async def store(self, body: bytes) -> None:
        """Write a configuration; a failure is logged once, and the file stays as it was."""
        if self._is_foreign or len(body) > BODY_LIMIT_BYTES:
            return
        try:
            await asyncio.to_thread(self._write, body)
            self._has_failed = False
        except OSError as error:
            if not self._has_failed:
                logger.error("configuration cache %s cannot be written: %s", self._path, describe_reason(error))
            self._has_failed = True

    def _read(self) -> bytes:
        with self._path.open("rb") as file:
            line = file.readline(_LINE_LIMIT_BYTES)
            if not line:
                raise CacheError("it is empty")
            try:
                head = msgspec.json.decode(line, type=_Line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                head = None
            if head is None or head.format != FORMAT:
                self._is_foreign = True
                raise CacheError("it is a file of another kind, and is never written to")
            if head.endpoint != self._endpoint:
                raise CacheError(f"it is from another controller, {head.endpoint[:200]!r}")
            body = file.read(BODY_LIMIT_BYTES + 1)
        if len(body) > BODY_LIMIT_BYTES:
            raise CacheError("it is too large")
        if hashlib.sha256(body).hexdigest() != head.sha256:
            raise CacheError("it is damaged")
        return body

    def _write(self, body: bytes) -> None:
        line = _Line(format=FORMAT, endpoint=self._endpoint, sha256=hashlib.sha256(body).hexdigest())
        folder = self._path.parent
        descriptor, name = tempfile.mkstemp(dir=folder, prefix=f".{self._path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.encode(line) + b"\n")
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(self._path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(name).unlink()
            raise
        with contextlib.suppress(OSError):  # the rename itself must last too, where folders can be synced
            folder_descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(folder_descriptor)
            finally:
                os.close(folder_descriptor)
