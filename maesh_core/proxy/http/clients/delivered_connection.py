"""A client's connection that another node has passed on: HTTP over a stream of its tunnel, whose requests are judged.

The base does the work. What differs: the address is that of the client for which the stream was opened, the fields that
describe the client are those of the node that sends, and requests are not counted for the service, which that node has
done.
"""

import asyncio
from typing import final

from maesh_core.plugin_system.interfaces import Response
from maesh_core.proxy.callers import CallCounter, Caller, EntrypointCounter
from maesh_core.proxy.http.answers import UNREACHED
from maesh_core.proxy.http.clients.client_connection import ClientConnection
from maesh_core.proxy.http.delivered_table import DeliveredTable
from maesh_core.proxy.http.environment import Environment
from maesh_core.proxy.http.messages.forwarding import ForwardedFields, PassedFields
from maesh_core.proxy.http.messages.request_parsing import HeadReader
from maesh_core.proxy.http.routing_table import CurrentTable
from maesh_core.proxy.http.transports import reset


@final
class DeliveredConnection(ClientConnection):
    """The connection of one stream."""

    __slots__ = ("_client", "_label")

    def __init__(self, environment: Environment, table: DeliveredTable, client: str) -> None:
        super().__init__(environment, CurrentTable(table), 0)  # only the other node knows the port
        self._client = client
        self._label = table.label

    def _find_address(self, transport: asyncio.BaseTransport) -> str:
        """Return the address of the delivery: the other end of the transport may be the node that sends."""
        return self._client

    def _build_caller(self) -> Caller:
        """Build a caller that counts in no metric."""
        caller = Caller(self.address, EntrypointCounter())
        caller.counter = CallCounter(self._label)
        caller.counter.users = 1
        return caller

    def _build_forwarded(self) -> ForwardedFields:
        """Pass the fields on as the other node has sent them, but for the account, which this node looks up."""
        return self.environment.add_account(PassedFields(), self.address)

    def _find_head_reader(self) -> HeadReader:
        """Keep the fields: they are those of a node of the mesh, which has applied the rules for its client."""
        return self.environment.head_readers.trusting

    @property
    def _may_switch(self) -> bool:
        """Whether the preface of HTTP/2 is accepted: always, because the service's scheme decides it."""
        return self._is_first and not self._is_eof

    def write_answer(self, response: Response) -> None:
        """Send an answer of the mesh; one about the server resets the stream, as the server's connection would be.

        The other node then decides: it tries another server, or answers.
        """
        if response.status in UNREACHED and self._transport is not None:
            self._is_closing = True
            self.is_keep_alive = False
            reset(self._transport)
        else:
            super().write_answer(response)
