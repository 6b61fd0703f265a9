"""Follows the taps of proxies at their admin ports: takes a proxy and a query, yields lines.

Anything may answer at the address that a proxy reported, so every size and wait is limited, and no part of an answer is
shown but its lines, which the caller checks. Loads aiohttp with the first tap.
"""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from maesh_core.controller.api.outgoing.bounded_get import build_options, build_url, describe_unreachable
from maesh_core.controller.api.outgoing.node_client import find_admin_address
from maesh_core.controller.api.outgoing.request_security import Secure, send_clear
from maesh_core.controller.lazy_session import LazySession
from maesh_core.errors import NodeUnreachableError
from maesh_core.model.messages import NodeReport
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

    __slots__ = ("_secure", "_session", "connections_limit")

    def __init__(
        self,
        *,
        connections_limit: int = CONNECTIONS_LIMIT,
        connect_s: float = CONNECT_TIMEOUT_S,
        silence_s: float = SILENCE_LIMIT_S,
        secure: Secure = send_clear,
    ) -> None:
        self._secure = secure
        self.connections_limit = connections_limit
        self._session = LazySession(
            connections=connections_limit, accept="application/x-ndjson", connect_s=connect_s, silence_s=silence_s
        )

    def __repr__(self) -> str:
        return f"<HttpTapClient {self._session.state}>"

    async def follow(self, proxy: NodeReport, query: str) -> AsyncIterator[bytes]:
        """Yield the lines of a proxy's tap, without line feeds. Never ends but raises NodeUnreachableError."""
        import aiohttp
        from yarl import URL

        address = find_admin_address(proxy)
        secured = self._secure(address)
        url = URL(build_url(address, f"/tap?{query}", is_tls=secured.context is not None), encoded=True)
        options = build_options(secured)
        try:
            async with self._session.open().get(url, allow_redirects=False, **options) as response:
                if response.status != 200:
                    raise NodeUnreachableError(f"the proxy answered {response.status}")
                async for line in _read_lines(response):
                    yield line
        except TimeoutError as error:
            raise NodeUnreachableError("the proxy did not answer in time") from error
        except OSError as error:
            raise NodeUnreachableError(describe_unreachable("the proxy", error)) from error
        except aiohttp.ClientError as error:
            raise NodeUnreachableError("the proxy's answer is incomplete or not HTTP") from error
        raise NodeUnreachableError("the proxy ended the tap")

    async def close(self) -> None:
        """Close the session, if there is one."""
        await self._session.close()


async def _read_lines(response: "aiohttp.ClientResponse") -> AsyncIterator[bytes]:
    rest = b""
    async for data in response.content.iter_any():
        *lines, rest = (rest + data).split(b"\n")
        if any(len(line) > LINE_LIMIT_BYTES for line in (*lines, rest)):
            raise NodeUnreachableError(f"the proxy sent a line of over {LINE_LIMIT_BYTES} bytes")
        for line in lines:
            yield line
