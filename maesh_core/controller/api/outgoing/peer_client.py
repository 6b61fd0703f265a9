"""Asks other controllers for the proxies that pull from them: takes the address of a controller, returns reports.

The names in an answer are those that proxies gave themselves, so they are checked as in this controller's own registry.
"""

import msgspec

from maesh_core.controller.api.nodes import NODE_LIMIT, AdminAddress, is_valid_name
from maesh_core.controller.api.outgoing.bounded_get import BoundedGetter
from maesh_core.controller.api.outgoing.request_security import Secure, send_clear
from maesh_core.controller.api.paths import REPORTS_PATH
from maesh_core.controller.mesh_proxies.mesh_pods import Peer
from maesh_core.errors import NodeUnreachableError
from maesh_core.model.messages import NodeReport

TIMEOUT_S = 1.5
"""Time-out of the whole request. A controller answers at once, unless it builds everything."""
LIMIT_BYTES = 20 * 1024 * 1024
"""NODE_LIMIT proxies with the longest names and revisions are 18 MB; usual ones are 200 bytes each."""
CONNECTIONS_LIMIT = 4

_decode_reports = msgspec.json.Decoder(list[NodeReport]).decode


class PeerClient:
    """Sends requests to controllers. Close it when done."""

    __slots__ = ("_getter",)

    def __init__(self, secure: Secure = send_clear, *, timeout_s: float = TIMEOUT_S) -> None:
        self._getter = BoundedGetter(
            "the controller", timeout_s=timeout_s, connections=CONNECTIONS_LIMIT, secure=secure
        )

    def __repr__(self) -> str:
        return f"<PeerClient {self._getter!r}>"

    async def fetch_reports(self, peer: Peer) -> list[NodeReport]:
        """Fetch the proxies that pull from a controller; raises NodeUnreachableError."""
        body = await self._getter.get(AdminAddress(peer.ip, peer.port), REPORTS_PATH, limit_bytes=LIMIT_BYTES)
        try:
            reports = _decode_reports(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise NodeUnreachableError("the controller's answer is not its list of proxies") from error
        return [each for each in reports[:NODE_LIMIT] if is_valid_name(each.name)]

    async def close(self) -> None:
        """Close the connections."""
        await self._getter.close()
