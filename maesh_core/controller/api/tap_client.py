"""Follows the taps of proxies at their admin ports: takes an address and a query, yields lines.

Anything may answer at the address that a proxy reported, so every size and wait is limited, and no part of an answer is
shown but its lines, which the caller checks. Loads aiohttp with the first tap.
"""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from maesh_core.controller.api.node_client import build_url
from maesh_core.controller.api.nodes import AdminAddress
from maesh_core.errors import NodeUnreachableError
from maesh_core.model.tap import LINE_LIMIT_BYTES

if TYPE_CHECKING:
    import aiohttp

CONNECT_TIMEOUT_S = 2.0
SILENCE_LIMIT_S = 10.0
"""A proxy that sends nothing for so long is gone: it sends an empty line every 3 s."""
CONNECTIONS_LIMIT = 500
"""Limit of concurrent connections: as many as proxies that are asked for their traffic."""
CONNECTIONS_SHARE = 8
"""At most this part of the process's descriptors is used."""


def choose_stream_limit(open_files: int | None) -> int:
    """Choose the limit of connections for a process with this descriptor limit; None: no limit."""
    return CONNECTIONS_LIMIT if open_files is None else min(CONNECTIONS_LIMIT, max(1, open_files // CONNECTIONS_SHARE))


class HttpTapClient:
    """Follows taps, over a session that is created by the first one. Close it when done."""

    __slots__ = ("_connect_s", "_session", "_silence_s", "connections_limit")

    def __init__(
        self,
        *,
        connections_limit: int = CONNECTIONS_LIMIT,
        connect_s: float = CONNECT_TIMEOUT_S,
        silence_s: float = SILENCE_LIMIT_S,
    ) -> None:
        self.connections_limit = connections_limit
        self._connect_s = connect_s
        self._silence_s = silence_s
        self._session: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        return f"<HttpTapClient {'idle' if self._session is None else 'open'}>"

    async def follow(self, address: AdminAddress, query: str) -> AsyncIterator[bytes]:
        """Yield the lines of a proxy's tap, without line feeds. Never ends but raises NodeUnreachableError."""
        import aiohttp
        from yarl import URL

        url = URL(build_url(address, f"/tap?{query}"), encoded=True)
        try:
            async with self._open_session().get(url, allow_redirects=False) as response:
                if response.status != 200:
                    raise NodeUnreachableError(f"the proxy answered {response.status}")
                async for line in _read_lines(response):
                    yield line
        except TimeoutError as error:
            raise NodeUnreachableError("the proxy did not answer in time") from error
        except OSError as error:
            raise NodeUnreachableError("the proxy cannot be reached") from error
        except aiohttp.ClientError as error:
            raise NodeUnreachableError("the proxy's answer is incomplete or not HTTP") from error
        raise NodeUnreachableError("the proxy ended the tap")

    async def close(self) -> None:
        """Close the session, if there is one."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _open_session(self) -> "aiohttp.ClientSession":
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self.connections_limit, force_close=True),
                timeout=aiohttp.ClientTimeout(total=None, connect=self._connect_s, sock_read=self._silence_s),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"Accept": "application/x-ndjson", "Accept-Encoding": "identity", "User-Agent": "maesh"},
                auto_decompress=False,
                trust_env=False,
            )
        return self._session


async def _read_lines(response: "aiohttp.ClientResponse") -> AsyncIterator[bytes]:
    rest = b""
    async for data in response.content.iter_any():
        *lines, rest = (rest + data).split(b"\n")
        if any(len(line) > LINE_LIMIT_BYTES for line in (*lines, rest)):
            raise NodeUnreachableError(f"the proxy sent a line of over {LINE_LIMIT_BYTES} bytes")
        for line in lines:
            yield line
