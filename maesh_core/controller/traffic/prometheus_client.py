"""Sends queries to Prometheus' HTTP API: takes a URL and PromQL, returns rows.

Every size and wait is limited, and an error says what to do about it in one line
(prometheus.io/docs/prometheus/latest/querying/api, "Instant queries").
"""

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import msgspec

from maesh_core.controller.lazy_session import LazySession
from maesh_core.errors import SettingsError, TrafficUnavailableError

if TYPE_CHECKING:
    import aiohttp

TIMEOUT_S: Final = 10.0
LIMIT_BYTES: Final = 32 * 1024 * 1024
"""A row is about 150 bytes; 2,000 services have at most some 10,000 rows in a result."""
CONNECTIONS: Final = 4
QUERY_PATH: Final = "/api/v1/query"
SHOWN_LIMIT: Final = 200

_PREFIX = "Prometheus (--prometheus)"
_is_url = re.compile(r"https?://[^\s/?#]+(?:/[^\s?#]*)?", re.ASCII).fullmatch


class _Row(msgspec.Struct):
    metric: dict[str, str]
    value: tuple[float, str]


class _Data(msgspec.Struct, rename="camel"):
    result_type: str
    result: list[msgspec.Raw]


class _Answer(msgspec.Struct):
    status: str
    data: _Data | None = None
    error: str = ""


_decode_answer = msgspec.json.Decoder(_Answer).decode
_decode_row = msgspec.json.Decoder(_Row).decode
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class HttpPrometheusClient:
    """Sends queries, over a session that is created by the first one. Close it when done. Raises SettingsError."""

    __slots__ = ("_limit_bytes", "_session", "_timeout_s", "_url")

    def __init__(self, url: str, *, timeout_s: float = TIMEOUT_S, limit_bytes: int = LIMIT_BYTES) -> None:
        if not _is_url(url):
            raise SettingsError(f"--prometheus: {url!r} is not a URL such as http://prometheus.monitoring:9090")
        self._url = url.rstrip("/") + QUERY_PATH
        self._timeout_s = timeout_s
        self._limit_bytes = limit_bytes
        self._session = LazySession(connections=CONNECTIONS, is_reused=True, total_s=timeout_s)

    def __repr__(self) -> str:
        return f"<HttpPrometheusClient {self._session.state}>"  # the URL may have a password

    async def query(self, text: str) -> list[tuple[Mapping[str, str], float]]:
        """Return the rows of a query now, without those that cannot be read; raises TrafficUnavailableError."""
        import aiohttp  # loads 13 MB, which most controllers never need

        try:
            form = {"query": text, "timeout": f"{self._timeout_s:g}s"}
            async with self._session.open().post(self._url, data=form, allow_redirects=False) as response:
                status, body = response.status, await self._read(response)
        except TimeoutError as error:
            raise TrafficUnavailableError(f"{_PREFIX} did not answer within {self._timeout_s:g} s") from error
        except aiohttp.ClientConnectorCertificateError as error:
            raise TrafficUnavailableError(f"{_PREFIX} has a certificate that is not trusted") from error
        except aiohttp.ClientConnectorError as error:
            raise TrafficUnavailableError(f"{_PREFIX} cannot be reached: {_describe(error)}") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise TrafficUnavailableError(f"{_PREFIX}: the answer is incomplete or not HTTP") from error
        return _parse_rows(status, body)

    async def close(self) -> None:
        """Close the session, if there is one."""
        await self._session.close()

    async def _read(self, response: "aiohttp.ClientResponse") -> bytes:
        body = bytearray()
        async for data in response.content.iter_any():
            body += data
            if len(body) > self._limit_bytes:
                raise TrafficUnavailableError(f"{_PREFIX}: the answer is larger than {self._limit_bytes} bytes")
        return bytes(body)


def _describe(error: "aiohttp.ClientConnectorError") -> str:
    """Describe why no connection was established, in the system's words."""
    number = error.os_error.errno or 0
    return os.strerror(number) if number > 0 else error.os_error.strerror or str(error.os_error)


def _parse_rows(status: int, body: bytes) -> list[tuple[Mapping[str, str], float]]:
    try:
        answer = _decode_answer(body)
    except _UNREADABLE as error:
        text = "the answer is not one of its API" if status == 200 else f"the answer has status {status}"
        raise TrafficUnavailableError(f"{_PREFIX}: {text}; does the URL lead to Prometheus?") from error
    if status != 200 or answer.status != "success":
        shown = "".join(each if each.isprintable() else " " for each in answer.error[:SHOWN_LIMIT])
        raise TrafficUnavailableError(f"{_PREFIX} refused a query with status {status}: {shown}")
    if answer.data is None or answer.data.result_type != "vector":
        raise TrafficUnavailableError(f"{_PREFIX}: the answer is not one of its API; does the URL lead to Prometheus?")
    rows: list[tuple[Mapping[str, str], float]] = []
    for raw in answer.data.result:
        try:
            row = _decode_row(raw)
            rows.append((row.metric, float(row.value[1])))
        except (*_UNREADABLE, ValueError):
            continue
    return rows
