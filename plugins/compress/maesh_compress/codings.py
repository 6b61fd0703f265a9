"""The content codings of this installation: gzip always, brotli and zstd if their libraries are installed.

Every coding is a function that makes a compressor for one response. Their windows are limited, because each compressor
keeps its window in memory, and so does the client that decompresses.
"""

import importlib
import logging
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from maesh_compress import CompressSettings

WINDOW_BITS: Final = 18
"""The windows of brotli and zstd: 256 KiB. Larger ones seldom help responses, and cost memory in each compressor."""
_GZIP_WINDOW: Final = 31
"""The largest window of deflate, 32 KiB, and 16 for the header and trailer of gzip."""
_logger = logging.getLogger(__name__)


class Compressor(Protocol):
    """Compresses one response."""

    def compress(self, data: bytes) -> bytes:
        """Return what is ready of the data so far."""

    def flush(self) -> bytes:
        """Return everything that is left of the data so far, so that the client can read it now."""

    def finish(self) -> bytes:
        """Return the end."""


BuildCompressor = Callable[[], Compressor]


class GzipCompressor:
    """RFC 1952."""

    def __init__(self, level: int) -> None:
        self._stream = zlib.compressobj(level, zlib.DEFLATED, _GZIP_WINDOW)

    def compress(self, data: bytes) -> bytes:
        """Return what is ready."""
        return self._stream.compress(data)

    def flush(self) -> bytes:
        """Return what is left."""
        return self._stream.flush(zlib.Z_SYNC_FLUSH)

    def finish(self) -> bytes:
        """Return the end."""
        return self._stream.flush()


class BrotliCompressor:
    """RFC 7932."""

    def __init__(self, library: Any, level: int) -> None:
        self._stream = library.Compressor(quality=level, lgwin=WINDOW_BITS)

    def compress(self, data: bytes) -> bytes:
        """Return what is ready."""
        return bytes(self._stream.process(data))

    def flush(self) -> bytes:
        """Return what is left."""
        return bytes(self._stream.flush())

    def finish(self) -> bytes:
        """Return the end."""
        return bytes(self._stream.finish())


class ZstdCompressor:
    """RFC 8878; RFC 9659 allows windows of up to 8 MiB."""

    def __init__(self, library: Any, parameters: Any) -> None:
        self._library = library
        self._stream = library.ZstdCompressor(compression_params=parameters).compressobj()

    def compress(self, data: bytes) -> bytes:
        """Return what is ready."""
        return bytes(self._stream.compress(data))

    def flush(self) -> bytes:
        """Return what is left."""
        return bytes(self._stream.flush(self._library.COMPRESSOBJ_FLUSH_BLOCK))

    def finish(self) -> bytes:
        """Return the end."""
        return bytes(self._stream.flush(self._library.COMPRESSOBJ_FLUSH_FINISH))


def list_codings(settings: CompressSettings) -> Mapping[str, BuildCompressor]:
    """Return the codings that this installation has, by their names in HTTP."""
    found: dict[str, BuildCompressor] = {"gzip": lambda: GzipCompressor(settings.gzip_level)}
    brotli, zstd = _load("brotli", "br"), _load("zstandard", "zstd")
    if brotli is not None:
        found["br"] = lambda: BrotliCompressor(brotli, settings.br_level)
    if zstd is not None:
        parameters = zstd.ZstdCompressionParameters.from_level(settings.zstd_level, window_log=WINDOW_BITS)
        found["zstd"] = lambda: ZstdCompressor(zstd, parameters)
    return found


def _load(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        _logger.debug("%s is not installed: install maesh-compress[%s] to compress by %s", name, extra, extra)
        return None
