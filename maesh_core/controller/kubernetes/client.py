"""Requests to the API server over a few connections: bytes in, bytes out, and a watch as batches of lines.

Takes credentials, gives answers, or raises KubernetesError with status and reason. Every request has a time-out and
every answer a limit. Retries nothing but a refused login, once, with fresh credentials; aiohttp sends what is
idempotent (GET, PUT, DELETE) once more when the connection breaks before an answer, so that what was done may come back
as a conflict or as not found. Must not know of resources.
"""

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from http import HTTPStatus
from typing import Any

import aiohttp
import msgspec

from maesh_core.controller.kubernetes.credentials import Access, Credentials
from maesh_core.controller.kubernetes.paths import JSON
from maesh_core.errors import KubernetesError

REQUEST_TIMEOUT_S = 30.0
"""For one request and its whole answer; a page of 500 large pods takes a second from a busy server."""
CONNECT_TIMEOUT_S = 5.0
ANSWER_LIMIT_BYTES = 512 * 2**20
"""The largest answer that is read: an unpaged list of 100,000 pods comes to 400 MB."""
LINE_LIMIT_BYTES = 16 * 2**20
"""The longest line of a watch: etcd takes objects of 1.5 MiB, which JSON may swell."""
STATUS_LIMIT_BYTES = 2**20
"""The longest error that is read; one names every field of an object that is not as it must be."""
RETRY_AFTER_LIMIT_S = 60.0
IDLE_S = 30.0
"""An idle connection is kept this long; credentials that are loaded again bring connections of their own."""
READ_BUFFER_BYTES = 2**20
USER_AGENT = "maesh"

Query = Mapping[str, str]


class _Status(msgspec.Struct, frozen=True):
    """The API server's Status object, as far as errors need it."""

    message: str = ""
    reason: str = ""
    code: int = 0


class KubernetesClient:
    """A client of one API server. Close it when done; made within a running loop."""

    __slots__ = ("_access", "_credentials", "_session")

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._access: Access | None = None
        self._session: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        return f"<KubernetesClient {self._access.server if self._access else 'not connected yet'}>"

    async def get(self, path: str, query: Query | None = None, *, timeout_s: float = REQUEST_TIMEOUT_S) -> bytes:
        """Read; the body as it came."""
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
        """Send a request, `body` as JSON, and give the answer's body. Raises KubernetesError for all but a 2xx."""
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

    async def watch_lines(self, path: str, query: Query, *, silence_limit_s: float) -> AsyncIterator[list[bytes]]:
        """Give what a watch tells, all lines that are there at a time; the first batch, empty, says that it stands.

        Ends when the server ends it. Raises KubernetesError when it is refused, breaks, or says nothing for too long.
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

    async def log_in(self) -> None:
        """Load the credentials, as the first request would. Raises KubernetesError when they cannot be had."""
        await self._credentials.get()

    async def close(self) -> None:
        """Close all connections; whoever reads a watch leaves it first, for it would wait out its silence."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    @asynccontextmanager
    async def _request(
        self, method: str, path: str, *, headers: Mapping[str, str], query: Query | None, data: bytes | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send, with fresh credentials if the first are refused; gives the response once its status is 2xx."""
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
                    await _read_beginning(response)  # so that the connection can be used again
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
    """Read an error's body, no more of it than a Status can be; what comes of one that breaks is enough."""
    parts, size = [], 0
    try:
        async with asyncio.timeout(REQUEST_TIMEOUT_S):
            async for part in response.content.iter_any():
                parts.append(part)
                size += len(part)
                if size > STATUS_LIMIT_BYTES:
                    break
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
        pass  # the status line has said what matters
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
    """Read a number of seconds; a date, which API servers do not send, is taken as none."""
    if not (text.isascii() and text.isdecimal() and len(text) < 6):
        return None
    return min(float(text), RETRY_AFTER_LIMIT_S)


def _describe_failure(method: str, path: str, error: Exception) -> KubernetesError:
    if isinstance(error, TimeoutError):
        text = "no answer in time"
    elif isinstance(error, aiohttp.ClientHttpProxyError):  # its own text has the proxy's password in it
        text = f"the proxy answered {error.status} {' '.join(error.message.split())}"
    elif isinstance(error, aiohttp.ClientConnectorCertificateError):
        text = f"TLS: {error.certificate_error}"
    elif isinstance(error, aiohttp.ClientConnectorError):  # its own text has objects of Python's in it
        what = "TLS" if isinstance(error, aiohttp.ClientSSLError) else "no connection"
        text = f"{what}: {error.host}:{error.port}: {_describe_reason(error.os_error)}"
    elif isinstance(error, ssl.SSLError):
        text = f"TLS: {error}"
    else:
        text = " ".join(str(error).split()) or type(error).__name__
    return KubernetesError(f"{method} {path}: {text}")


def _describe_reason(error: OSError) -> str:
    """Say why in the system's words, where it has any: asyncio puts the address into the text once more."""
    is_system = error.errno is not None and error.errno > 0 and not isinstance(error, ssl.SSLError | socket.gaierror)
    text = os.strerror(error.errno) if is_system and error.errno else error.strerror or str(error)
    return " ".join(text.split())
