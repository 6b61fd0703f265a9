"""The sender's half: opens a connection to the proxy of another node, and hands it to the protocol that wants it.

Takes a node, a delivery and a protocol. The addresses of the node are tried in order. The receiver is believed only if
its answer proves the secret.
"""

import asyncio
from collections.abc import Callable

from maesh_core.plugin import Delivery, OpenFailure, Opening, OutgoingProtocol
from maesh_relay import RelayNode
from maesh_relay.lines import LineProtocol
from maesh_relay.wire import Question, make_challenge, parse_answer, parse_greeting, render_question


class RelayPath:
    """The way to the servers of one node. Implements `Path`."""

    def __init__(self, name: str, entry: RelayNode, *, own_name: str, secret: bytes) -> None:
        self.name = name
        self.entry = entry
        self.own_name = own_name
        self.secret = secret

    def __repr__(self) -> str:
        return f"<RelayPath to {self.name}>"

    def open(self, delivery: Delivery, protocol: OutgoingProtocol) -> Opening:
        """Open a connection to a server of the node."""
        return RelayOpening(self, delivery, protocol)


class RelayOpening:
    """A connection that is being opened. Implements `Opening`."""

    def __init__(self, path: RelayPath, delivery: Delivery, protocol: OutgoingProtocol) -> None:
        self.has_connection = False
        self._path = path
        self._delivery = delivery
        self._protocol = protocol
        self._dialer: Dialer | None = None
        self._is_settled = False
        self._task = asyncio.get_running_loop().create_task(self._connect())

    def __repr__(self) -> str:
        return f"<RelayOpening to {self._path.name} has_connection={self.has_connection}>"

    def cancel(self) -> None:
        """Stop it; nothing is called afterwards."""
        self._is_settled = True
        self._task.cancel()
        if self._dialer is not None:
            self._dialer.fail("cancelled")

    async def _connect(self) -> None:
        loop, reason = asyncio.get_running_loop(), "the node has no address"
        for address in self._path.entry.addresses:
            try:
                await loop.create_connection(self._build_dialer, address, self._path.entry.port)
            except OSError as error:
                reason = error.strerror or type(error).__name__
            else:
                return
        self.fail(OpenFailure(reason, 0, is_servers_fault=False))

    def _build_dialer(self) -> "Dialer":
        self._dialer = Dialer(self._path, self._delivery, self)
        return self._dialer

    def fail(self, failure: OpenFailure) -> None:
        """Report that there is no connection, once."""
        if not self._is_settled:
            self._is_settled = True
            self._protocol.open_failed(failure)

    def settle(self, hand_over: Callable[[OutgoingProtocol], None]) -> None:
        """Hand the connection over, unless the opening was cancelled."""
        if not self._is_settled:
            self._is_settled = True
            hand_over(self._protocol)


class Dialer(LineProtocol):
    """One connection, until it is handed over."""

    def __init__(self, path: RelayPath, delivery: Delivery, opening: RelayOpening) -> None:
        super().__init__()
        self._path = path
        self._delivery = delivery
        self._opening = opening
        self._challenge = make_challenge()

    def on_line(self, line: bytes) -> None:
        """Answer the greeting with the question; then read the answer. Raises ValueError."""
        assert self.transport is not None
        path = self._path
        if not self._opening.has_connection:
            question = Question(path.own_name, self._challenge, self._delivery)
            challenge = parse_greeting(line)
            self.transport.write(render_question(question, secret=path.secret, challenge=challenge, receiver=path.name))
            self._opening.has_connection = True
            return
        answer = parse_answer(line, secret=path.secret, challenge=self._challenge)
        if answer.status == 200:
            self._opening.settle(self.hand_over)
        else:
            self._opening.fail(OpenFailure(answer.reason, answer.status, answer.status in (502, 504)))
            self.fail(answer.reason)

    def on_failed(self, reason: str) -> None:
        """Report that there is no connection."""
        self._opening.fail(OpenFailure(reason, 0, is_servers_fault=False))
