"""The aiohttp session of a client of untrusted servers: proxies at the addresses that they reported, and Prometheus.

It is created by the first request, since aiohttp loads 13 MB, which most controllers never need. It keeps no cookies,
reads no variables of the environment, and decompresses nothing, so that a small answer does not become a large one.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import aiohttp


class LazySession:
    """A session, once it is needed. Close it when done; the next request opens it again.

    `total_s` limits whole requests; `connect_s` and `silence_s` limit parts of them. None: no limit.
    """

    __slots__ = ("_accept", "_connect_s", "_connections", "_is_reused", "_session", "_silence_s", "_total_s")

    def __init__(
        self,
        *,
        connections: int,
        is_reused: bool = False,
        accept: str = "application/json",
        total_s: float | None = None,
        connect_s: float | None = None,
        silence_s: float | None = None,
    ) -> None:
        self._connections = connections
        self._is_reused = is_reused
        self._accept = accept
        self._total_s = total_s
        self._connect_s = connect_s
        self._silence_s = silence_s
        self._session: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        return f"<LazySession {self.state}>"

    @property
    def state(self) -> str:
        """Its state, for the name of its owner: `idle` or `open`."""
        return "idle" if self._session is None else "open"

    def open(self) -> "aiohttp.ClientSession":
        """Return the session."""
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._connections, force_close=not self._is_reused),
                timeout=aiohttp.ClientTimeout(total=self._total_s, connect=self._connect_s, sock_read=self._silence_s),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"Accept": self._accept, "Accept-Encoding": "identity", "User-Agent": "maesh"},
                auto_decompress=False,
                trust_env=False,
            )
        return self._session

    async def close(self) -> None:
        """Close the session, if there is one."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()
