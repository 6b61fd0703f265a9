"""The API of a controller at an address: sends requests, and follows streams.

Takes a session and a base URL; returns bodies, or raises MaeshError with what the user can do. `describe_refusal` is
also for the API of a pod behind the API server.
"""

import os
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from http import HTTPStatus

import aiohttp

from maesh_core.errors import ApiRefusedError, ControllerLostError, ControllerUnreachableError, MaeshError

CONNECT_TIMEOUT_S = 5.0
LOST = "lost the controller at"
"""The beginning of the error of a stream that breaks off; the controller's name follows."""
LINE_LIMIT_BYTES = 64 * 1024
CONNECT_SHARE = 0.5
"""The part of a change's time-out in which it must be connected: then it is known whether anything was sent."""
TEXT_LIMIT_BYTES = 300
"""So much of a refusal is shown."""

LineBatches = AsyncGenerator[list[bytes], None]
"""The lines of a stream in batches, the first one empty."""


FindFields = Callable[[str, str], Awaitable[Mapping[str, str]]]
"""Returns the fields that prove who sends a request with this method for this path; raises MaeshError."""


async def find_no_fields(method: str, path: str) -> Mapping[str, str]:
    """Prove nothing."""
    return {}


class DirectApi:
    """The API at a base URL. `server_name` is what its certificate must be valid for, if not the URL's host.

    `name` is shown; by default it is the URL.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        base: str,
        *,
        name: str = "",
        server_name: str | None = None,
        find_fields: FindFields = find_no_fields,
    ) -> None:
        self.name = name or base
        self._find_fields = find_fields
        self._base = base
        self._session = session
        self._server_name = server_name

    def __repr__(self) -> str:
        return f"<DirectApi {self.name}>"

    async def fetch(self, path: str) -> bytes:
        """Fetch a path and return the body; raises MaeshError."""
        return await self._send("GET", path)

    async def post(self, path: str, body: bytes) -> bytes:
        """Send a POST request with a JSON document, and return the body of the response; raises MaeshError.

        It is ControllerUnreachableError only if nothing was sent.
        """
        return await self._send("POST", path, body)

    async def follow(self, path: str, query: Mapping[str, str], *, silence_limit_s: float) -> LineBatches:
        """Yield the lines of a stream in batches, the first one empty; ends with the stream. Raises MaeshError."""
        timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_TIMEOUT_S, sock_read=silence_limit_s)
        has_answered = False
        fields = await self._find_fields("GET", path)
        try:
            async with self._session.get(
                self._base + path,
                params=query,
                headers=fields,
                timeout=timeout,
                server_hostname=self._server_name,
                allow_redirects=False,
            ) as response:
                if response.status != 200:
                    await self._read(response, path)
                has_answered = True
                yield []
                rest = b""
                async for data in response.content.iter_any():
                    *lines, rest = (rest + data).split(b"\n")
                    if len(rest) > LINE_LIMIT_BYTES:
                        raise MaeshError(f"{path}: a line of over {LINE_LIMIT_BYTES} bytes")
                    yield lines
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if has_answered:
                raise MaeshError(f"{LOST} {self.name}: {describe(error)}") from error
            raise self._build_error("GET", error) from error

    async def _send(self, method: str, path: str, body: bytes | None = None) -> bytes:
        headers = dict(await self._find_fields(method, path))
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            async with self._session.request(
                method,
                self._base + path,
                data=body,
                headers=headers,
                timeout=self._build_timeout(method),
                server_hostname=self._server_name,
                allow_redirects=False,
            ) as response:
                return await self._read(response, path)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._build_error(method, error) from error

    def _build_timeout(self, method: str) -> aiohttp.ClientTimeout:
        timeout = self._session.timeout
        if method == "GET" or timeout.total is None:
            return timeout
        return aiohttp.ClientTimeout(total=timeout.total, connect=timeout.total * CONNECT_SHARE)

    async def _read(self, response: aiohttp.ClientResponse, path: str) -> bytes:
        body = await response.read()
        if response.status != 200:
            raise ApiRefusedError(describe_refusal(self.name, path, response.status, body), status=response.status)
        return body

    def _build_error(self, method: str, error: Exception) -> MaeshError:
        is_sent = not isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError))
        if method != "GET" and is_sent:
            text = f"{LOST} {self.name} before it has answered: {describe(error)}"
            return ControllerLostError(f"{text}; it may have done what was asked")
        return ControllerUnreachableError(f"no controller answers at {self.name}: {describe(error)}")


def describe_refusal(name: str, path: str, status: int, body: bytes) -> str:
    """Describe a response that is no success, with what the user can do about it."""
    text = f"{path}: {status} {body[:TEXT_LIMIT_BYTES].decode(errors='replace').strip()}"
    match status:
        case HTTPStatus.UNAUTHORIZED:
            return f"{text}; --controller-token FILE names a valid token"
        case HTTPStatus.FORBIDDEN:
            return f"{text}; another --controller-token, or further rights of its account, may help"
        case HTTPStatus.UPGRADE_REQUIRED:
            return f"{text}; use an https endpoint, and --root-ca-controller FILE for the mesh's own authority"
        case HTTPStatus.NOT_FOUND:
            return f"{text}; {name} may not be a controller"
    return text


def describe(error: Exception) -> str:
    """Describe why a request failed; if no connection could be established, in the system's words."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        reason = error.certificate_error
        shown = reason.verify_message if isinstance(reason, ssl.SSLCertVerificationError) else str(reason)
        return f"its certificate is refused: {shown}; --root-ca-controller FILE names the certificates to trust"
    if isinstance(error, aiohttp.ClientConnectorError):
        number = error.os_error.errno or 0
        return os.strerror(number) if number > 0 else error.os_error.strerror or str(error.os_error)
    return str(error) or "no answer in time"
