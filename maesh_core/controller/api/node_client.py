"""Fetches documents from a proxy's admin port: takes an address, returns the configuration's bytes, or the traffic.

A client that pulls can name any port of its address, and anything may answer there. Therefore only a configuration is
passed on, no other part of an answer is shown, and every size and wait is limited.
"""

import ipaddress
from typing import TYPE_CHECKING

import msgspec

from maesh_core.controller.api.nodes import AdminAddress
from maesh_core.controller.traffic.parsing import parse_traffic
from maesh_core.controller.traffic.turns import work_in_turns
from maesh_core.errors import NodeUnreachableError
from maesh_core.model.traffic import ProxyTraffic

if TYPE_CHECKING:
    import aiohttp

ANSWER_TIMEOUT_S = 2.0
"""Time-out of the whole request: waiting for a free connection, connecting, and reading the answer."""
ANSWER_LIMIT_BYTES = 64 * 1024 * 1024
"""5,000 services with 10 servers each are about 10 MB."""
CONNECTIONS_LIMIT = 4
"""Limit of concurrent requests to proxies, which limits the memory for their answers."""


class _Head(msgspec.Struct):
    """The fields that identify a whole configuration; other fields are only checked to be JSON."""

    revision: str
    full: bool


_HEAD_DECODER = msgspec.json.Decoder(_Head)


class NodeClient:
    """Sends requests to proxies, over a session that is created by the first one. Close it when done."""

    __slots__ = ("_connections", "_limit_bytes", "_session", "_timeout_s")

    def __init__(
        self,
        *,
        timeout_s: float = ANSWER_TIMEOUT_S,
        limit_bytes: int = ANSWER_LIMIT_BYTES,
        connections: int = CONNECTIONS_LIMIT,
    ) -> None:
        self._timeout_s = timeout_s
        self._limit_bytes = limit_bytes
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        return f"<NodeClient {'idle' if self._session is None else 'open'}>"

    async def fetch_configuration(self, address: AdminAddress) -> bytes:
        """Fetch the configuration that the proxy applies, as JSON; raises NodeUnreachableError."""
        body = await self._fetch(address, "/configuration")
        _check_configuration(body)
        return body

    async def fetch_traffic(self, address: AdminAddress) -> ProxyTraffic:
        """Fetch what the proxy has counted; raises NodeUnreachableError."""
        return await work_in_turns(parse_traffic(await self._fetch(address, "/traffic")))

    async def _fetch(self, address: AdminAddress, path: str) -> bytes:
        url = build_url(address, path)
        import aiohttp  # loads 13 MB, which most controllers never need

        try:
            async with self._open_session().get(url, allow_redirects=False) as response:
                if response.status != 200:
                    raise NodeUnreachableError(f"the proxy answered {response.status}")
                return await self._read(response)
        except TimeoutError as error:
            raise NodeUnreachableError(f"the proxy did not answer within {self._timeout_s:g} s") from error
        except OSError as error:
            raise NodeUnreachableError("the proxy cannot be reached") from error
        except aiohttp.ClientError as error:
            raise NodeUnreachableError("the proxy's answer is incomplete or not HTTP") from error

    async def close(self) -> None:
        """Close the session, if there is one."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _read(self, response: "aiohttp.ClientResponse") -> bytes:
        body = bytearray()
        async for data in response.content.iter_any():
            body += data
            if len(body) > self._limit_bytes:
                raise NodeUnreachableError(f"the proxy's answer is larger than {self._limit_bytes} bytes")
        return bytes(body)

    def _open_session(self) -> "aiohttp.ClientSession":
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._connections, force_close=True),
                timeout=aiohttp.ClientTimeout(total=self._timeout_s),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "maesh"},
                auto_decompress=False,  # a small answer must not become a large one
                trust_env=False,
            )
        return self._session


def build_url(address: AdminAddress, path: str) -> str:
    """Build the URL of the request. A host name as address is refused: nothing is ever looked up."""
    if address.port is None:
        raise NodeUnreachableError("the proxy did not report its admin port")
    try:
        ip = ipaddress.ip_address(address.ip)
    except ValueError as error:
        raise NodeUnreachableError("the proxy's address is not known") from error
    if isinstance(ip, ipaddress.IPv6Address):
        ip = ip.ipv4_mapped or ip  # a socket for both families shows IPv4 peers as IPv6
    host = f"[{ip}]" if ip.version == 6 else str(ip)
    return f"http://{host}:{address.port}{path}"


def _check_configuration(body: bytes) -> None:
    """Raise NodeUnreachableError if the body is not a whole configuration."""
    try:
        body.decode()  # the decoder does not check that skipped parts are UTF-8
        is_whole = _HEAD_DECODER.decode(body).full
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        is_whole = False
    if not is_whole:
        raise NodeUnreachableError("the proxy's answer is not a configuration")
