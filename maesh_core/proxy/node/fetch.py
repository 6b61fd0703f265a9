"""A small HTTP/1.1 client that pulls from one endpoint over a persistent connection, one request at a time.

Takes the endpoint's address and a query; returns status and body, or raises PullError. All sizes and waits are limited,
since the response may be anything. It does not interpret configurations. It replaces aiohttp, which would cost a proxy
15 MB.
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
from maesh_core.plain_http.bearer_token import is_private, read_token
from maesh_core.process.tls_credentials import TlsCredentials

if TYPE_CHECKING:
    import ssl

CONFIGURATION_PATH = "/api/configuration/current"

HEAD_LIMIT_BYTES = 16 * 1024
"""The limit of a response head, interim responses included; a controller's heads have a few hundred bytes."""
BODY_LIMIT_BYTES = 256 * 1024 * 1024
"""The limit of a body; 5,000 services with 10 servers each take about 10 MB."""
READ_LIMIT_BYTES = 256 * 1024


class FetchLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Time-outs in seconds, and size limits. `answer_timeout_s` is added to the time for which a pull may be held."""

    connect_timeout_s: float = 5.0
    answer_timeout_s: float = 15.0
    body_timeout_s: float = 60.0
    head_limit_bytes: int = HEAD_LIMIT_BYTES
    body_limit_bytes: int = BODY_LIMIT_BYTES


DEFAULT_LIMITS = FetchLimits()


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """The endpoint to pull from; `authority` is the value of the Host field."""

    host: str
    port: int
    is_tls: bool
    authority: str
    path: str

    def __str__(self) -> str:
        """Render as a URL."""
        return f"http{'s' * self.is_tls}://{self.authority}{self.path}"


class Answer(msgspec.Struct, frozen=True):
    """A complete response."""

    status: int
    body: bytes


def parse_endpoint(url: str) -> Endpoint:
    """Parse `--endpoint`: the controller's base URL, or the full URL of its configuration. Raises SettingsError."""
    if not url:
        raise SettingsError("--endpoint is required: the URL of the controller, such as http://controller:9000")
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
        raise SettingsError(f"--endpoint {url}: only a scheme, a host, a port and a path are allowed")
    is_tls = parts.scheme == "https"
    path = parts.path.rstrip("/")
    if not path.endswith(CONFIGURATION_PATH):
        path += CONFIGURATION_PATH
    return Endpoint(host=host, port=port or (443 if is_tls else 80), is_tls=is_tls, authority=parts.netloc, path=path)


def find_source_host(endpoint: Endpoint, admin_host: str) -> str | None:
    """Return the source address for pulls, so that the controller finds the admin port at the address it sees.

    By default, the kernel uses 127.0.0.1 for any loopback address, and the first address of a network. None keeps that
    default: the admin port listens on all addresses, or the controller may be on another machine, which may not be
    reachable from the given address.
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
    """Sends GET requests to an endpoint in sequence. Close it at the end.

    It connects from `source_host` if possible; with None, the kernel chooses the address. Over TLS, it trusts only the
    certificates in the file `root_ca`, or the system's and those of its credentials. The token in `token_file` is sent
    with each request. Both files may be replaced at any time. Raises SettingsError if a token would be sent in clear.
    """

    __slots__ = (
        *("_connection", "_credentials", "_endpoint", "_is_outdated", "_limits", "_root_ca", "_source_host"),
        "_token_file",
    )

    def __init__(
        self,
        endpoint: Endpoint,
        limits: FetchLimits = DEFAULT_LIMITS,
        *,
        source_host: str | None = None,
        root_ca: str = "",
        token_file: str = "",
    ) -> None:
        if token_file and not is_private("https" if endpoint.is_tls else "http", endpoint.host):
            raise SettingsError(f"--controller-token needs an https endpoint: {endpoint} would get the token in clear")
        self._source_host = source_host
        self._root_ca = root_ca
        self._token_file = token_file
        self._endpoint = endpoint
        self._limits = limits
        self._credentials: TlsCredentials | None = None
        self._is_outdated = False
        self._connection: _Connection | None = None

    def __repr__(self) -> str:
        """Show the endpoint and the connection."""
        return f"<Fetcher {self._endpoint} {self._connection}>"

    def use(self, credentials: TlsCredentials) -> None:
        """Show this certificate on further connections, the next request's included."""
        self._credentials = credentials
        self._is_outdated = True

    async def fetch(self, query: str, *, hold_s: float = 0.0) -> Answer:
        """Send one request; the server may hold the response for `hold_s`. Raises PullError.

        If a reused connection turns out to be closed, the request is sent again on a new one.
        """
        target = f"{self._endpoint.path}?{query}" if query else self._endpoint.path
        if self._is_outdated:
            await self.close()
        kept = self._connection
        if kept is not None:
            try:
                return await self._exchange(kept, target, hold_s)
            except PullError:
                if kept.has_received:
                    raise
        return await self._exchange(await self._connect(), target, hold_s)

    async def close(self) -> None:
        """Close the connection, if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _connect(self) -> "_Connection":
        try:
            async with asyncio.timeout(self._limits.connect_timeout_s):
                reader, writer = await self._open()
        except TimeoutError as error:
            raise PullError(f"no connection within {self._limits.connect_timeout_s:g} s") from error
        except (OSError, UnicodeError) as error:  # UnicodeError: an invalid host name
            raise PullError(f"cannot connect: {_describe(error)}") from error
        return _Connection(reader, writer)

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        endpoint, source = self._endpoint, self._source_host
        self._is_outdated = False
        context = _build_tls_context(self._root_ca, self._credentials) if endpoint.is_tls else None
        if source is not None:
            with contextlib.suppress(OSError):  # if the source address cannot be used, connect without it
                return await asyncio.open_connection(endpoint.host, endpoint.port, ssl=context, local_addr=(source, 0))
        return await asyncio.open_connection(endpoint.host, endpoint.port, ssl=context)

    async def _exchange(self, connection: "_Connection", target: str, hold_s: float) -> Answer:
        """Send a request and receive its response; reuse the connection only after a response that ended cleanly."""
        self._connection = None
        async with connection:
            request = self._build_request(target)
            answer, is_reusable = await connection.exchange(request, self._limits, hold_s)
            if is_reusable:
                connection.keep()
                self._connection = connection
        return answer

    def _build_request(self, target: str) -> bytes:
        fields = [f"Host: {self._endpoint.authority}", "Accept: application/json"]
        if self._token_file:
            fields.append(f"Authorization: Bearer {self._read_token()}")
        return "\r\n".join([f"GET {target} HTTP/1.1", *fields, "", ""]).encode("ascii")

    def _read_token(self) -> str:
        try:
            return read_token(self._token_file)
        except ValueError as error:
            raise PullError(f"{error} (--controller-token)") from error


class _Connection:
    """A connection to the endpoint; leaving its context closes it, unless keep() was called."""

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
        """Start an exchange."""
        self._is_kept = False
        self.has_received = False

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection, unless it is kept."""
        if not self._is_kept:
            await self.close()

    def keep(self) -> None:
        """Leave the connection open at the end of the exchange."""
        self._is_kept = True

    async def close(self) -> None:
        """Close the connection at once."""
        self._writer.transport.abort()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def exchange(self, request: bytes, limits: FetchLimits, hold_s: float) -> tuple[Answer, bool]:
        """Send a request; return the response, and whether the connection can be reused. Raises PullError."""
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
            raise PullError("no complete response in time") from error
        except OSError as error:
            raise PullError(f"the connection broke: {_describe(error)}") from error
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            raise PullError(f"the response is not HTTP: {error}") from error
        finally:
            message.release()
        return Answer(message.status, b"".join(message.body)), message.is_reusable

    async def _feed(self, message: "_Message") -> None:
        data = await self._reader.read(READ_LIMIT_BYTES if message.has_head else message.count_head_left())
        if not data:
            raise PullError("the connection ended before the response was complete")
        self.has_received = True
        message.feed(data)


class _Message:
    """One response, parsed by llhttp. Interim responses (1xx) are ignored."""

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
        """Return the number of bytes that a head may still have."""
        return self._limits.head_limit_bytes - self._received_bytes

    def feed(self, data: bytes) -> None:
        """Parse received bytes. All of them count, so chunk heads and trailers are limited too. Raises PullError."""
        self._received_bytes += len(data)
        self._parser.feed_data(data)
        limit_bytes = self._limits.head_limit_bytes + self.has_head * self._limits.body_limit_bytes
        if self._received_bytes >= limit_bytes:
            raise PullError("the response is too large")

    def release(self) -> None:
        """Drop the parser: it and this object refer to each other, which would keep the body alive."""
        self._parser = None

    def on_message_begin(self) -> None:
        """Handle the first byte of a message. A second message makes the connection unusable."""
        if self.is_complete:
            self.is_reusable = False

    def on_headers_complete(self) -> None:
        """Handle the end of a head."""
        if not self.is_complete:
            self.status = self._parser.get_status_code()
            self.has_head = self.status >= 200

    def on_body(self, data: bytes) -> None:
        """Handle a part of the body."""
        if not self.is_complete:
            self.body.append(data)

    def on_message_complete(self) -> None:
        """Handle the end of a message. Only here llhttp knows whether the connection stays open."""
        if self.has_head and not self.is_complete:
            self.is_complete = True
            self.is_reusable = self._parser.should_keep_alive()


def _build_tls_context(root_ca: str, credentials: TlsCredentials | None) -> "ssl.SSLContext":
    import ssl  # imported only for https, since it takes 5 MB

    try:
        context = ssl.create_default_context(cafile=root_ca or None)
    except OSError as error:  # includes ssl.SSLError
        reason = "it contains no certificates" if isinstance(error, ssl.SSLError) else error.strerror
        raise PullError(f"cannot read {root_ca} (--root-ca-controller): {reason}") from error
    if credentials is None:
        return context
    from maesh_core.process.tls_contexts import load_key

    try:
        load_key(context, credentials)
        if not root_ca:
            context.load_verify_locations(cadata=credentials.bundle)
    except (OSError, ValueError) as error:  # the text must not contain the key
        raise PullError(f"the certificate of this proxy cannot be used: {type(error).__name__}") from error
    return context


def _describe(error: OSError | UnicodeError) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
