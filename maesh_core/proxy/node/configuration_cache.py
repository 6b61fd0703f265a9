"""Stores the last good configuration on disk, for a start while the controller is unreachable.

Takes a file's path and full configurations. The file is written completely, then renamed, and only its owner can read
it. Its first line identifies the content, so that a file that is truncated, modified, of another controller or
unrelated is never used as a configuration. File I/O runs in threads.
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
    """The first line, which identifies the rest."""

    format: str
    endpoint: str
    sha256: str


class CacheError(Exception):
    """The file cannot be used; the text gives the reason."""


class ConfigurationCache:
    """One cache file. `endpoint` is the URL of the controller that sent the configuration."""

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
        """Read the configuration; return None, and log the reason, if it cannot be used."""
        try:
            return await asyncio.to_thread(self._read)
        except FileNotFoundError:
            return None
        except OSError as error:
            logger.error("cannot read configuration cache %s: %s", self._path, describe_reason(error))
        except CacheError as error:
            logger.error("ignoring configuration cache %s: %s", self._path, error)
        return None

    async def store(self, body: bytes) -> None:
        """Write a configuration. A failure leaves the file unchanged, and is logged when it begins and ends."""
        if self._is_foreign or len(body) > BODY_LIMIT_BYTES:
            return
        try:
            await asyncio.to_thread(self._write, body)
            if self._has_failed:
                logger.warning("configuration cache %s can be written again", self._path)
            self._has_failed = False
        except OSError as error:
            if not self._has_failed:
                logger.error("cannot write configuration cache %s: %s", self._path, describe_reason(error))
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
                raise CacheError("it is not a configuration cache, so it is never overwritten")
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
        with contextlib.suppress(OSError):  # sync the rename too, if the system can sync folders
            folder_descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(folder_descriptor)
            finally:
                os.close(folder_descriptor)
