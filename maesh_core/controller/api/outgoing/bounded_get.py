"""Sends GET requests to proxies and to other controllers: takes an address, returns the body of the answer.

Anything may answer at the address. Therefore every size and wait is limited, redirects are not followed, no name is
looked up, and errors show no part of an answer. Raises NodeUnreachableError. Loads aiohttp with the first request.
"""

import ipaddress
from typing import TYPE_CHECKING, Any

from maesh_core.controller.api.nodes import AdminAddress
from maesh_core.controller.api.outgoing.request_security import Secure, Secured, send_clear
from maesh_core.controller.lazy_session import LazySession
from maesh_core.errors import NodeUnreachableError
from maesh_core.model.addresses import join_port

if TYPE_CHECKING:
    import aiohttp

PORT_LIMIT = 65535


class BoundedGetter:
    """Sends requests over a session that is created by the first one. `who` names the other side in errors.

    `secure` decides for each address about TLS and a token.
    """

    __slots__ = ("_secure", "_session", "_timeout_s", "_who")

    def __init__(self, who: str, *, timeout_s: float, connections: int, secure: Secure = send_clear) -> None:
        self._who = who
        self._secure = secure
        self._timeout_s = timeout_s
        self._session = LazySession(connections=connections, total_s=timeout_s)

    def __repr__(self) -> str:
        return f"<BoundedGetter {self._session.state}>"

    async def get(self, address: AdminAddress, path: str, *, limit_bytes: int) -> bytes:
        """Fetch a path; raises NodeUnreachableError, also for another status than 200."""
        secured = self._secure(address)
        url = build_url(address, path, is_tls=secured.context is not None)
        import aiohttp  # loads 13 MB, which most controllers never need

        options = build_options(secured)
        try:
            async with self._session.open().get(url, allow_redirects=False, **options) as response:
                if response.status != 200:
                    raise NodeUnreachableError(f"{self._who} answered {response.status}")
                return await self._read(response, limit_bytes)
        except TimeoutError as error:
            raise NodeUnreachableError(f"{self._who} did not answer within {self._timeout_s:g} s") from error
        except OSError as error:
            raise NodeUnreachableError(describe_unreachable(self._who, error)) from error
        except aiohttp.ClientError as error:
            raise NodeUnreachableError(f"{self._who}'s answer is incomplete or not HTTP") from error

    async def close(self) -> None:
        """Close the session, if there is one."""
        await self._session.close()

    async def _read(self, response: "aiohttp.ClientResponse", limit_bytes: int) -> bytes:
        body = bytearray()
        async for data in response.content.iter_any():
            body += data
            if len(body) > limit_bytes:
                raise NodeUnreachableError(f"{self._who}'s answer is larger than {limit_bytes} bytes")
        return bytes(body)


def build_options(secured: Secured) -> dict[str, Any]:
    """Build the options of a request that aiohttp sends."""
    options: dict[str, Any] = {"headers": {"Authorization": f"Bearer {secured.token}"} if secured.token else {}}
    if secured.context is not None:
        options |= {"ssl": secured.context, "server_hostname": secured.server_name}
    return options


def describe_unreachable(who: str, error: OSError) -> str:
    """Describe why there is no connection; only a wrong certificate has a text of its own."""
    import aiohttp

    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"{who} shows a certificate that is not its own, or not valid"
    return f"{who} cannot be reached"


def build_url(address: AdminAddress, path: str, *, is_tls: bool = False) -> str:
    """Build the URL of the request. A host name as address is refused: nothing is ever looked up."""
    if address.port is None:
        raise NodeUnreachableError("the proxy did not report its admin port")
    if not 0 < address.port <= PORT_LIMIT:
        raise NodeUnreachableError("the port is not known")
    try:
        ip = ipaddress.ip_address(address.ip)
    except ValueError as error:
        raise NodeUnreachableError("the proxy's address is not known") from error
    if isinstance(ip, ipaddress.IPv6Address):
        ip = ip.ipv4_mapped or ip  # a socket for both families shows IPv4 peers as IPv6
    return f"http{'s' * is_tls}://{join_port(str(ip), address.port)}{path}"
