"""Sends requests to the API server over a few connections: bytes in, bytes out, and watches as batches of lines.

Takes credentials; returns the bodies of responses, or raises KubernetesError with status and reason. Every request has
a time-out and every response a limit. It only retries a refused login, once, with new credentials. aiohttp repeats
idempotent requests (GET, PUT, DELETE) once if the connection breaks before a response, so an executed request may end
with a conflict or a 404. Must not know resources.
"""

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from http import HTTPStatus
from typing import Any

import aiohttp
import msgspec

from maesh_core.controller.kubernetes.credentials import Access, Credentials
from maesh_core.controller.kubernetes.paths import JSON
from maesh_core.errors import KubernetesError

REQUEST_TIMEOUT_S = 30.0
"""Time-out of one request with its whole response; a page of 500 large pods takes a second from a busy server."""
CONNECT_TIMEOUT_S = 5.0
ANSWER_LIMIT_BYTES = 512 * 2**20
"""The largest response that is read: an unpaged list of 100,000 pods has 400 MB."""
LINE_LIMIT_BYTES = 16 * 2**20
"""The longest line of a watch: etcd accepts objects of 1.5 MiB, which can grow in JSON."""
STATUS_LIMIT_BYTES = 2**20
"""The longest error that is read; an error can list every invalid field of an object."""
RETRY_AFTER_LIMIT_S = 60.0
IDLE_S = 30.0
"""Time for which an idle connection is kept; reloaded credentials use new connections."""
READ_BUFFER_BYTES = 2**20
USER_AGENT = "maesh"

Query = Mapping[str, str]


class _Status(msgspec.Struct, frozen=True):
    """The API server's Status object, with the fields that errors need."""

    message: str = ""
    reason: str = ""
    code: int = 0


class KubernetesClient:
    """A client of one API server. Close it when done; create it in a running event loop."""

    __slots__ = ("_access", "_credentials", "_session")

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._access: Access | None = None
        self._session: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        return f"<KubernetesClient {self._access.server if self._access else 'not connected yet'}>"

    async def get(self, path: str, query: Query | None = None, *, timeout_s: float = REQUEST_TIMEOUT_S) -> bytes:
        """Send a GET request; return the body unchanged."""
        return await self.send("GET", path, query=query, timeout_s=timeout_s)

    async def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Query | None = None,
        content_type: str = JSON,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> bytes:
        """Send a request, `body` as JSON, and return the response's body. Raises KubernetesError for all but a 2xx."""
        content = None if body is None else msgspec.json.encode(body)
        headers = {"Accept": JSON} | ({"Content-Type": content_type} if content is not None else {})
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._request(method, path, headers=headers, query=query, data=content) as response,
            ):
                return await _read_bounded(response)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise _describe_failure(method, path, error) from error

    async def watch_lines(
        self, path: str, query: Query, *, silence_limit_s: float
    ) -> AsyncGenerator[list[bytes], None]:
        """Yield the lines of a watch in batches; the first batch is empty and means that the watch is established.

        Ends when the server ends it. Raises KubernetesError if it is refused, breaks, or is silent for too long.
        """
        try:
            async with AsyncExitStack() as stack:
                request = self._request("GET", path, headers={"Accept": JSON}, query=query)
                async with asyncio.timeout(min(silence_limit_s, REQUEST_TIMEOUT_S)):
                    response = await stack.enter_async_context(request)
                yield []
                rest = b""
                while True:
                    async with asyncio.timeout(silence_limit_s):
                        chunk = await response.content.readany()
                    if not chunk:
                        return
                    *lines, rest = (rest + chunk).split(b"\n")
                    if len(rest) > LINE_LIMIT_BYTES:
                        raise KubernetesError(f"GET {path}: a line of the watch is over {LINE_LIMIT_BYTES} bytes")
                    if lines:
                        yield lines
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise _describe_failure("GET", path, error) from error

    @asynccontextmanager
    async def open_websocket(
        self, path: str, query: Query, *, protocol: str
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """Open a WebSocket, with new credentials if the first are refused. Raises KubernetesError if there is none."""
        access = self._access = await self._credentials.get()
        for is_last in (False, True):
            try:
                websocket = await self._open_session().ws_connect(
                    access.server + path,
                    params=query,
                    protocols=(protocol,),
                    headers=[*access.headers.items(), *access.impersonation],
                    ssl=access.tls or True,
                    server_hostname=access.server_hostname,
                    proxy=access.proxy,
                )
            except aiohttp.WSServerHandshakeError as error:
                if error.status == HTTPStatus.UNAUTHORIZED and not is_last:
                    access = self._access = await self._credentials.renew(access)
                    continue
                text = f"GET {path}: {error.status} the API server opens no WebSocket"
                raise KubernetesError(text, status=error.status) from error
            except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
                raise _describe_failure("GET", path, error) from error
            async with websocket:
                if websocket.protocol != protocol:
                    raise KubernetesError(f"GET {path}: the API server does not know the protocol {protocol}")
                yield websocket
            return

    async def log_in(self) -> None:
        """Load the credentials, as the first request would. Raises KubernetesError if that fails."""
        await self._credentials.get()

    async def close(self) -> None:
        """Close all connections; leave all watches before, because they would wait for their time-out."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    @asynccontextmanager
    async def _request(
        self, method: str, path: str, *, headers: Mapping[str, str], query: Query | None, data: bytes | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request, with new credentials if the first are refused; return the response if its status is 2xx."""
        access = self._access = await self._credentials.get()
        for is_last in (False, True):
            async with self._open_session().request(
                method,
                access.server + path,
                params=query,
                data=data,
                headers=[*{**headers, **access.headers}.items(), *access.impersonation],
                ssl=access.tls or True,
                server_hostname=access.server_hostname,
                proxy=access.proxy,
                allow_redirects=False,
            ) as response:
                if response.status == HTTPStatus.UNAUTHORIZED and not is_last:
                    await _read_beginning(response)  # so that the connection can be reused
                    access = self._access = await self._credentials.renew(access)
                    continue
                if response.status // 100 != 2:
                    raise await _read_error(method, path, response)
                yield response
                return

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_S),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
                headers={"User-Agent": USER_AGENT},
                read_bufsize=READ_BUFFER_BYTES,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session


async def _read_bounded(response: aiohttp.ClientResponse) -> bytes:
    parts, size = [], 0
    async for part in response.content.iter_any():
        parts.append(part)
        size += len(part)
        if size > ANSWER_LIMIT_BYTES:
            text = f"{response.method} {response.url.path}: the answer is over {ANSWER_LIMIT_BYTES} bytes"
            raise KubernetesError(text, status=response.status)
    return b"".join(parts)


async def _read_beginning(response: aiohttp.ClientResponse) -> bytes:
    """Read an error's body, up to the limit of a Status; if the connection breaks, the part that arrived is enough."""
    parts, size = [], 0
    try:
        async with asyncio.timeout(REQUEST_TIMEOUT_S):
            async for part in response.content.iter_any():
                parts.append(part)
                size += len(part)
                if size > STATUS_LIMIT_BYTES:
                    break
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
        pass  # the status line has the important part
    return b"".join(parts)


async def _read_error(method: str, path: str, response: aiohttp.ClientResponse) -> KubernetesError:
    try:
        status = msgspec.json.decode(await _read_beginning(response), type=_Status)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        status = _Status()
    text = " ".join((status.message or response.reason or "no reason given").split())[:500]
    return KubernetesError(
        f"{method} {path}: {response.status} {text}",
        status=response.status,
        reason=status.reason,
        retry_after_s=_parse_retry_after(response.headers.get("Retry-After", "")),
    )


def _parse_retry_after(text: str) -> float | None:
    """Parse a number of seconds; None for a date, which API servers do not send."""
    if not (text.isascii() and text.isdecimal() and len(text) < 6):
        return None
    return min(float(text), RETRY_AFTER_LIMIT_S)


def _describe_failure(method: str, path: str, error: Exception) -> KubernetesError:
    if isinstance(error, TimeoutError):
        text = "no answer in time"
    elif isinstance(error, aiohttp.ClientHttpProxyError):  # its own text contains the proxy's password
        text = f"the proxy answered {error.status} {' '.join(error.message.split())}"
    elif isinstance(error, aiohttp.ClientConnectorCertificateError):
        text = f"TLS: {error.certificate_error}"
    elif isinstance(error, aiohttp.ClientConnectorError):  # its own text contains Python objects
        what = "TLS" if isinstance(error, aiohttp.ClientSSLError) else "no connection"
        text = f"{what}: {error.host}:{error.port}: {_describe_reason(error.os_error)}"
    elif isinstance(error, ssl.SSLError):
        text = f"TLS: {error}"
    else:
        text = " ".join(str(error).split()) or type(error).__name__
    return KubernetesError(f"{method} {path}: {text}")


def _describe_reason(error: OSError) -> str:
    """Describe an OSError in the system's words, if it has any: asyncio repeats the address in its text."""
    is_system = error.errno is not None and error.errno > 0 and not isinstance(error, ssl.SSLError | socket.gaierror)
    text = os.strerror(error.errno) if is_system and error.errno else error.strerror or str(error)
    return " ".join(text.split())
