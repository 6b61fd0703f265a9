"""The proxy's half: decides for each response whether it is compressed, and compresses its body piece by piece.

Large pieces are compressed in a thread, so that they do not block the event loop; the libraries release Python's lock
meanwhile. A response of unknown length may be a stream, so each piece of it is flushed: the client gets it at once.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, Final

from maesh_compress.accepting import MediaTypes, choose_coding, has_option, weaken_tag
from maesh_compress.settings import Compression
from maesh_core.plugin import Exchange, MetricFamily, Middleware

THREAD_BYTES: Final = 8192
"""Larger pieces are compressed in a thread: in the event loop, they would take longer than a fifth of a millisecond."""
THREADS: Final = 2
"""Threads of a worker that compress; more would take the processors from the event loops."""
DISCARDED: Final = (b"Accept-Ranges", b"Content-MD5", b"Digest", b"Content-Digest", b"Repr-Digest")
"""Fields that do not hold for the compressed body (RFC 9110 section 14.3, RFC 9530)."""
_NO_CONTENT: Final = 204
_PARTIAL: Final = 206
_NOT_MODIFIED: Final = 304


class Counters:
    """What a worker counts, by service and coding: responses and their bytes before and after; or those passed over."""

    __slots__ = ("passed_over", "responses", "sizes")

    def __init__(self) -> None:
        self.responses: dict[tuple[str, str], int] = {}
        self.sizes: dict[tuple[str, str, str], int] = {}
        self.passed_over: dict[tuple[str], int] = {}


class Places:
    """The responses that a worker compresses now, up to a limit, and the threads for that."""

    __slots__ = ("_executor", "_limit", "counters", "used")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._executor: Executor | None = None
        self.used = 0
        self.counters = Counters()

    def __repr__(self) -> str:
        return f"<Places {self.used} of {self._limit}>"

    @property
    def is_full(self) -> bool:
        """Whether the limit is reached."""
        return self.used >= self._limit

    @property
    def executor(self) -> Executor:
        """The threads, which are started when the first large piece is compressed."""
        if self._executor is None:
            self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="maesh-compress")
        return self._executor


class Compressing:
    """Compresses one response. Implements `interfaces.BodyTransform`."""

    __slots__ = ("_after", "_before", "_compressor", "_is_flushing", "_key", "_places")

    def __init__(self, places: Places, compressor: Any, key: tuple[str, str], *, is_flushing: bool) -> None:
        self._places = places
        self._compressor = compressor
        self._key = key
        self._is_flushing = is_flushing
        self._before = self._after = 0
        places.used += 1

    def __repr__(self) -> str:
        return f"<Compressing {self._key} {self._before}>"

    def feed(self, data: bytes) -> bytes | Awaitable[bytes]:
        """Compress a piece."""
        self._before += len(data)
        if len(data) > THREAD_BYTES:
            return asyncio.get_running_loop().run_in_executor(self._places.executor, self._compress, data)
        return self._compress(data)

    def _compress(self, data: bytes) -> bytes:
        compressor = self._compressor  # close() may be called meanwhile, if this runs in a thread
        result: bytes = compressor.compress(data)
        if self._is_flushing:
            result += compressor.flush()
        self._after += len(result)
        return result

    def end(self, trailers: bytes) -> bytes:
        """Return the end, and count the response."""
        result: bytes = self._compressor.finish()
        self._after += len(result)
        counters, (service, coding) = self._places.counters, self._key
        counters.responses[self._key] = counters.responses.get(self._key, 0) + 1
        for stage, size in (("before", self._before), ("after", self._after)):
            counters.sizes[service, coding, stage] = counters.sizes.get((service, coding, stage), 0) + size
        self.close()
        return result

    def close(self) -> None:
        """Leave the place to another response."""
        if self._compressor is not None:
            self._compressor = None
            self._places.used -= 1


class Compress(Middleware):
    """The compression of one service."""

    def __init__(self, settings: Compression, codings: Mapping[str, Callable[[], Any]], places: Places) -> None:
        self._codings = codings
        self._names = tuple(name for name in settings.codings if name in codings)
        self._min_bytes = settings.min_bytes
        self._types = MediaTypes(settings.types)
        self._places = places

    def __repr__(self) -> str:
        return f"<Compress {self._names}>"

    def on_response(self, exchange: Exchange) -> None:
        """Tell caches that responses without a body depend on Accept-Encoding, too, as those with one do."""
        if exchange.method == b"HEAD" or exchange.status == _NOT_MODIFIED:
            content_type = exchange.response_headers.get(b"Content-Type")
            if exchange.status == _NOT_MODIFIED or (content_type is not None and self._types.includes(content_type)):
                add_vary(exchange)

    def on_response_body(self, exchange: Exchange) -> Compressing | None:
        """Compress the body if the client accepts a coding and the response may be changed."""
        if not self._is_eligible(exchange):
            return None
        add_vary(exchange)
        if exchange.protocol == "HTTP/1.0":
            return None
        accepted = exchange.client_headers.get_all(b"Accept-Encoding")
        coding = choose_coding(b",".join(accepted), self._names) if accepted else ""
        if not coding or has_option(exchange.client_headers.get_all(b"Cache-Control"), b"no-transform"):
            return None
        service = exchange.service
        if self._places.is_full:
            passed_over = self._places.counters.passed_over
            passed_over[service,] = passed_over.get((service,), 0) + 1
            return None
        change_headers(exchange, coding)
        compressor = self._codings[coding]()
        return Compressing(self._places, compressor, (service, coding), is_flushing=exchange.response_length is None)

    def _is_eligible(self, exchange: Exchange) -> bool:
        """Whether the response could be compressed for some client."""
        length = exchange.response_length
        if (length is not None and length < self._min_bytes) or exchange.is_grpc:
            return False
        headers = exchange.response_headers
        if exchange.status in (_NO_CONTENT, _PARTIAL, _NOT_MODIFIED) or headers.get(b"Content-Range") is not None:
            return False
        content_type = headers.get(b"Content-Type")
        if content_type is None or not self._types.includes(content_type):
            return False
        if any(coding.strip().lower() != b"identity" for coding in headers.get_all(b"Content-Encoding")):
            return False
        if headers.get(b"Signature-Input") is not None:
            return False
        return not has_option(headers.get_all(b"Cache-Control"), b"no-transform")


def add_vary(exchange: Exchange) -> None:
    """Add Accept-Encoding to Vary, unless it is there."""
    headers = exchange.response_headers
    values = headers.get_all(b"Vary")
    if not has_option(values, b"accept-encoding") and not has_option(values, b"*"):
        headers.set(b"Vary", b", ".join((*(value for value in values if value), b"Accept-Encoding")))


def change_headers(exchange: Exchange, coding: str) -> None:
    """Describe the compressed body instead of the original one."""
    headers = exchange.response_headers
    headers.set(b"Content-Encoding", coding.encode())
    for name in DISCARDED:
        headers.remove(name)
    tag = headers.get(b"ETag")
    if tag is not None:
        headers.set(b"ETag", weaken_tag(tag))


class CompressFactory:
    """Builds the middleware of each service with compression."""

    kind = "compress"
    settings_type = Compression

    def __init__(self, codings: Mapping[str, Callable[[], Any]], limit: int) -> None:
        self._codings = codings
        self._places = Places(limit)

    def build_middleware(self, settings: Compression, service: str) -> Compress:
        """Build one."""
        return Compress(settings, self._codings, self._places)

    def collect_metrics(self) -> Sequence[MetricFamily]:
        """Read the counters."""
        counters = self._places.counters
        return [
            MetricFamily(
                name="maesh_compress_responses",
                type="counter",
                help="Compressed responses, by service and coding.",
                labels=("service", "coding"),
                samples=[(key, float(count)) for key, count in sorted(counters.responses.items())],
            ),
            MetricFamily(
                name="maesh_compress_bytes",
                type="counter",
                help="Bytes of compressed responses before and after compression, by service and coding.",
                labels=("service", "coding", "stage"),
                samples=[(key, float(count)) for key, count in sorted(counters.sizes.items())],
            ),
            MetricFamily(
                name="maesh_compress_passed_over",
                type="counter",
                help="Responses that were not compressed because too many were being compressed, by service.",
                labels=("service",),
                samples=[(key, float(count)) for key, count in sorted(counters.passed_over.items())],
            ),
        ]
