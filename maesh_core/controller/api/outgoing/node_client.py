"""Fetches documents from a proxy's admin port: takes an address, returns configuration, status or traffic as bytes.

A client that pulls can name any port of its address, and anything may answer there. Therefore an answer is only passed
on if it is a configuration or a status. The caller checks an answer about traffic.
"""

import msgspec

from maesh_core.controller.api.nodes import AdminAddress
from maesh_core.controller.api.outgoing.bounded_get import BoundedGetter
from maesh_core.controller.api.outgoing.request_security import Secure, send_clear
from maesh_core.errors import NodeUnreachableError
from maesh_core.model.messages import NodeReport

ANSWER_TIMEOUT_S = 2.0
"""Time-out of the whole request: waiting for a free connection, connecting, and reading the answer."""
ANSWER_LIMIT_BYTES = 64 * 1024 * 1024
"""5,000 services with 10 servers each are about 10 MB."""
CONNECTIONS_LIMIT = 4
"""Limit of concurrent requests to proxies, which limits the memory for their answers."""


class _Status(msgspec.Struct):
    """The fields that identify the status of a proxy."""

    revision: str | None
    ready: bool
    workers: int


class _Head(msgspec.Struct):
    """The fields that identify a whole configuration; other fields are only checked to be JSON."""

    revision: str
    full: bool


_HEAD_DECODER = msgspec.json.Decoder(_Head)
_STATUS_DECODER = msgspec.json.Decoder(_Status)
STATUS_LIMIT_BYTES = 4 * 1024 * 1024
"""A status lists the routers that a proxy refuses."""


class NodeClient:
    """Sends requests to proxies. Close it when done."""

    __slots__ = ("_getter", "_limit_bytes")

    def __init__(
        self,
        *,
        timeout_s: float = ANSWER_TIMEOUT_S,
        limit_bytes: int = ANSWER_LIMIT_BYTES,
        connections: int = CONNECTIONS_LIMIT,
        secure: Secure = send_clear,
    ) -> None:
        self._limit_bytes = limit_bytes
        self._getter = BoundedGetter("the proxy", timeout_s=timeout_s, connections=connections, secure=secure)

    def __repr__(self) -> str:
        return f"<NodeClient {self._getter!r}>"

    async def fetch_configuration(self, address: AdminAddress) -> bytes:
        """Fetch the configuration that the proxy applies, as JSON; raises NodeUnreachableError."""
        body = await self._getter.get(address, "/configuration", limit_bytes=self._limit_bytes)
        _check_configuration(body)
        return body

    async def fetch_status(self, address: AdminAddress) -> bytes:
        """Fetch the status of the proxy, as JSON; raises NodeUnreachableError."""
        body = await self._getter.get(address, "/status", limit_bytes=STATUS_LIMIT_BYTES)
        try:
            body.decode()
            _STATUS_DECODER.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise NodeUnreachableError("the proxy's answer is not a status") from error
        return body

    async def fetch_traffic(self, proxy: NodeReport, *, limit_bytes: int) -> bytes:
        """Fetch what the proxy has counted; raises NodeUnreachableError."""
        address = find_admin_address(proxy)
        return await self._getter.get(address, "/traffic", limit_bytes=min(limit_bytes, self._limit_bytes))

    async def fetch_report(self, proxy: NodeReport, name: str, *, limit_bytes: int) -> bytes:
        """Fetch a plugin's report of the proxy's workers; raises NodeUnreachableError."""
        address = find_admin_address(proxy)
        return await self._getter.get(address, f"/reports/{name}", limit_bytes=min(limit_bytes, self._limit_bytes))

    async def close(self) -> None:
        """Close the connections."""
        await self._getter.close()


def find_admin_address(proxy: NodeReport) -> AdminAddress:
    """Return the address of the admin port that a proxy has reported."""
    return AdminAddress(proxy.ip, proxy.admin_port, proxy.name if proxy.admin_tls else "")


def _check_configuration(body: bytes) -> None:
    """Raise NodeUnreachableError if the body is not a whole configuration."""
    try:
        body.decode()  # the decoder does not check that skipped parts are UTF-8
        is_whole = _HEAD_DECODER.decode(body).full
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        is_whole = False
    if not is_whole:
        raise NodeUnreachableError("the proxy's answer is not a configuration")
