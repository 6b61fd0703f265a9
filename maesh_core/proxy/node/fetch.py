"""A small HTTP/1.1 client that pulls from one endpoint, one request at a time, on a connection it keeps.

Takes the endpoint's address and a query; gives status and body, or raises PullError. Every size and wait is bounded:
what answers may be anything. It knows nothing of configurations. Not aiohttp: that costs a proxy 15 MB.
"""

import asyncio
import contextlib
import ipaddress
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httptools
import msgspec

from maesh_core.errors import PullError, SettingsError
from maesh_core.model.addresses import parse_address

if TYPE_CHECKING:
    import ssl

CONFIGURATION_PATH = "/api/configuration/current"

HEAD_LIMIT_BYTES = 16 * 1024
"""Heads of a controller are a few hundred bytes; interim responses count too."""
BODY_LIMIT_BYTES = 256 * 1024 * 1024
"""5,000 services with 10 servers each are about 10 MB."""
READ_LIMIT_BYTES = 256 * 1024


class FetchLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How long to wait, in seconds, and how much to take. `answer_timeout_s` is on top of what a pull may be held."""

    connect_timeout_s: float = 5.0
    answer_timeout_s: float = 15.0
    body_timeout_s: float = 60.0
    head_limit_bytes: int = HEAD_LIMIT_BYTES
    body_limit_bytes: int = BODY_LIMIT_BYTES


DEFAULT_LIMITS = FetchLimits()


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where to pull from; `authority` is what the Host header says."""

    host: str
    port: int
    is_tls: bool
    authority: str
    path: str

    def __str__(self) -> str:
        """Render as a URL."""
        return f"http{'s' * self.is_tls}://{self.authority}{self.path}"


class Answer(msgspec.Struct, frozen=True):
    """A whole response."""

    status: int
    body: bytes


def parse_endpoint(url: str) -> Endpoint:
    """Read `--endpoint`: the controller's base URL, or the full one of its configuration. Raises SettingsError."""
    if not url:
        raise SettingsError("--endpoint is needed: the URL of the controller, such as http://controller:9000")
    if not (url.isascii() and url.isprintable()) or " " in url:
        raise SettingsError(f"--endpoint {url!r} is not a URL")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise SettingsError(f"--endpoint {url} is not a URL: {error}") from error
    if parts.scheme not in {"http", "https"} or not host:
        raise SettingsError(f"--endpoint {url} is not a URL such as http://controller:9000")
    if "@" in parts.netloc or parts.query or parts.fragment or port == 0:
        raise SettingsError(f"--endpoint {url}: only a scheme, a host, a port and a path are taken")
    is_tls = parts.scheme == "https"
    path = parts.path.rstrip("/")
    if not path.endswith(CONFIGURATION_PATH):
        path += CONFIGURATION_PATH
    return Endpoint(host=host, port=port or (443 if is_tls else 80), is_tls=is_tls, authority=parts.netloc, path=path)


def find_source_host(endpoint: Endpoint, admin_host: str) -> str | None:
    """Find the address to pull from, so that the controller finds the admin port where the pulls come from.

    The kernel would choose 127.0.0.1 for any loopback address, and the first of a network's addresses. None leaves the
    choice to it: the admin port listens on all addresses, or the controller may be on another machine, which need not
    reach the one that was named.
    """
    if admin_host in ("", "0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        return None
    is_same = _spell(endpoint.host) == _spell(admin_host)
    return admin_host if is_same or (_is_loopback(endpoint.host) and _is_loopback(admin_host)) else None


def _spell(host: str) -> str:
    return parse_address(host) or host.lower()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class Fetcher:
    """Sends GET requests to an endpoint, one after the other. To be closed at the end.

    `source_host` is this machine's address that it connects from, as far as that works; None: the kernel chooses.
    """

    __slots__ = ("_connection", "_endpoint", "_limits", "_source_host")

    def __init__(
        self, endpoint: Endpoint, limits: FetchLimits = DEFAULT_LIMITS, *, source_host: str | None = None
    ) -> None:
        self._source_host = source_host
        self._endpoint = endpoint
        self._limits = limits
        self._connection: _Connection | None = None

    def __repr__(self) -> str:
        """Show the endpoint and the connection."""
        return f"<Fetcher {self._endpoint} {self._connection}>"

    async def fetch(self, query: str, *, hold_s: float = 0.0) -> Answer:
        """Ask once; the server may hold the answer back for `hold_s`. Raises PullError.

        On a kept connection that turns out to be closed, it asks once more on a new one.
        """
        target = f"{self._endpoint.path}?{query}" if query else self._endpoint.path
        kept = self._connection
        if kept is not None:
            try:
                return await self._exchange(kept, target, hold_s)
            except PullError:
                if kept.has_received:
                    raise
        return await self._exchange(await self._connect(), target, hold_s)

    async def close(self) -> None:
        """End the connection, if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _connect(self) -> "_Connection":
        try:
            async with asyncio.timeout(self._limits.connect_timeout_s):
                reader, writer = await self._open()
        except TimeoutError as error:
            raise PullError(f"no connection within {self._limits.connect_timeout_s:g} s") from error
        except (OSError, UnicodeError) as error:  # UnicodeError: a host that is no name
            raise PullError(f"cannot connect: {_describe(error)}") from error
        return _Connection(reader, writer)

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        endpoint, source = self._endpoint, self._source_host
        context = _build_tls_context() if endpoint.is_tls else None
        if source is not None:
            with contextlib.suppress(OSError):  # an address that cannot be used as the source is done without
                return await asyncio.open_connection(endpoint.host, endpoint.port, ssl=context, local_addr=(source, 0))
        return await asyncio.open_connection(endpoint.host, endpoint.port, ssl=context)

    async def _exchange(self, connection: "_Connection", target: str, hold_s: float) -> Answer:
        """Send and receive; the connection is kept only after an answer that ended cleanly."""
        self._connection = None
        request = f"GET {target} HTTP/1.1\r\nHost: {self._endpoint.authority}\r\nAccept: application/json\r\n\r\n"
        async with connection:
            answer, is_reusable = await connection.exchange(request.encode("ascii"), self._limits, hold_s)
            if is_reusable:
                connection.keep()
                self._connection = connection
        return answer


class _Connection:
    """A connection to the endpoint; leaving its context ends it, unless it was told to be kept."""

    __slots__ = ("_is_kept", "_reader", "_writer", "has_received")

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._is_kept = False
        self.has_received = False

    def __repr__(self) -> str:
        """Show both ends."""
        return f"<_Connection {self._writer.get_extra_info('sockname')} {self._writer.get_extra_info('peername')}>"

    async def __aenter__(self) -> None:
        """Begin an exchange."""
        self._is_kept = False
        self.has_received = False

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the connection, if it is not to be kept."""
        if not self._is_kept:
            await self.close()

    def keep(self) -> None:
        """Leave the connection open at the end of the exchange."""
        self._is_kept = True

    async def close(self) -> None:
        """End the connection at once."""
        self._writer.transport.abort()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def exchange(self, request: bytes, limits: FetchLimits, hold_s: float) -> tuple[Answer, bool]:
        """Send a request; give the answer, and whether the connection may be used again."""
        message = _Message(limits)
        try:
            self._writer.write(request)
            async with asyncio.timeout(hold_s + limits.answer_timeout_s):
                while not message.has_head:
                    await self._feed(message)
            async with asyncio.timeout(limits.body_timeout_s):
                while not message.is_complete:
                    await self._feed(message)
        except TimeoutError as error:
            raise PullError("no answer in time") from error
        except OSError as error:
            raise PullError(f"the connection broke: {_describe(error)}") from error
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            raise PullError(f"the answer is not HTTP: {error}") from error
        finally:
            message.release()
        return Answer(message.status, b"".join(message.body)), message.is_reusable

    async def _feed(self, message: "_Message") -> None:
        data = await self._reader.read(READ_LIMIT_BYTES if message.has_head else message.count_head_left())
        if not data:
            raise PullError("the connection ended before the answer did")
        self.has_received = True
        message.feed(data)


class _Message:
    """One response as llhttp tells it. Interim responses (1xx) are passed over."""

    __slots__ = ("_limits", "_parser", "_received_bytes", "body", "has_head", "is_complete", "is_reusable", "status")

    def __init__(self, limits: FetchLimits) -> None:
        self._limits = limits
        self._received_bytes = 0
        self._parser: Any = httptools.HttpResponseParser(self)
        self.status = 0
        self.body: list[bytes] = []
        self.has_head = False
        self.is_complete = False
        self.is_reusable = False

    def count_head_left(self) -> int:
        """Say how much more a head may bring."""
        return self._limits.head_limit_bytes - self._received_bytes

    def feed(self, data: bytes) -> None:
        """Take what came. It counts as a whole, so chunk heads and trailers are bounded too."""
        self._received_bytes += len(data)
        self._parser.feed_data(data)
        limit_bytes = self._limits.head_limit_bytes + self.has_head * self._limits.body_limit_bytes
        if self._received_bytes >= limit_bytes:
            raise PullError("the answer is too large")

    def release(self) -> None:
        """Let go of the parser: it and this object hold each other, and with them the body."""
        self._parser = None

    def on_message_begin(self) -> None:
        """See the first byte: of the answer, or of what must not follow it."""
        if self.is_complete:
            self.is_reusable = False

    def on_headers_complete(self) -> None:
        """See the end of a head."""
        if not self.is_complete:
            self.status = self._parser.get_status_code()
            self.has_head = self.status >= 200

    def on_body(self, data: bytes) -> None:
        """See a part of the body."""
        if not self.is_complete:
            self.body.append(data)

    def on_message_complete(self) -> None:
        """See the end of a message. llhttp knows here, and only here, whether the connection goes on."""
        if self.has_head and not self.is_complete:
            self.is_complete = True
            self.is_reusable = self._parser.should_keep_alive()


def _build_tls_context() -> "ssl.SSLContext":
    import ssl  # 5 MB, which a proxy without an endpoint of TLS does without

    return ssl.create_default_context()


def _describe(error: OSError | UnicodeError) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
