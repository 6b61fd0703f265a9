"""The receiver's half: accepts connections of other nodes, asks the rules, and joins them with servers of this node.

A connection without a proof gets nothing but the greeting. What needs each request to be judged goes to the mesh's HTTP
engine; other connections are joined with the server byte for byte. `review` ends those that are not allowed any more.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from maesh_core.plugin import ByRequest, Delivery, DeliveryVerdict, OutgoingProtocol, Refusal, Ticks
from maesh_relay.joining import Side, reset
from maesh_relay.lines import LineProtocol
from maesh_relay.wire import Answer, Question, make_challenge, parse_question, render_answer, render_greeting

PROOF_S: Final = 5.0
"""How long a connection may take to prove the secret."""
UNPROVEN_LIMIT: Final = 256
"""Connections without a proof in a worker; further ones are closed."""
GRACE_S: Final = 30.0
"""How long a connection whose server has left may finish what is under way."""
SHARE_OF_CONNECTIONS: Final = 4
"""All nodes together may use this part of `--connection-limit`."""

NO_ROOM = Refusal(503, "the node has too many connections")
FAILED = Refusal(503, "the node cannot decide about the connection")
REFUSED = Refusal(502, "the server refused the connection")
TOO_SLOW = Refusal(504, "the server did not accept the connection in time")


class Rules(Protocol):
    """What the receiver asks the transport."""

    async def judge(self, node: str, delivery: Delivery) -> DeliveryVerdict:
        """Decide whether a node may open a connection."""

    def judge_again(self, node: str, delivery: Delivery) -> DeliveryVerdict:
        """Decide whether it may keep it."""


class Accepted:
    """An open connection of another node. `deadline` is when it is reset; None as long as it is allowed."""

    def __init__(self, transport: asyncio.Transport, question: Question, *, is_judged: bool) -> None:
        self.transport = transport
        self.node, self.delivery = question.node, question.delivery
        self.is_judged = is_judged
        self.deadline: float | None = None

    def __repr__(self) -> str:
        return f"<Accepted from {self.node} to {self.delivery.service} deadline={self.deadline}>"


class Receiver:
    """The incoming connections of one worker, whose time-outs follow its coarse clock."""

    def __init__(
        self,
        rules: Rules,
        open_delivery: Callable[[Delivery], Awaitable[OutgoingProtocol | Refusal]],
        clock: Ticks,
        *,
        own_name: str,
        secret: bytes,
        connect_timeout_s: float,
        connection_limit: int,
    ) -> None:
        self.rules = rules
        self.open_delivery = open_delivery
        self.clock = clock
        self.own_name, self.secret = own_name, secret
        self.connect_timeout_s = connect_timeout_s
        self._limit = max(1, connection_limit // SHARE_OF_CONNECTIONS) if connection_limit > 0 else 0
        self.unproven: set[Door] = set()
        self.deciding: set[Door] = set()
        self.accepted: set[Accepted] = set()
        clock.add_sweep(self._sweep)

    def __repr__(self) -> str:
        return f"<Receiver {len(self.unproven)} unproven, {len(self.accepted)} accepted>"

    async def listen(self, sock: socket.socket) -> asyncio.Server:
        """Accept connections from a listening socket."""
        return await asyncio.get_running_loop().create_server(lambda: Door(self), sock=sock)

    @property
    def has_room(self) -> bool:
        """Whether there is room for all that are open or being decided about."""
        return not self._limit or len(self.accepted) + len(self.deciding) <= self._limit

    def _sweep(self, now: float) -> None:
        """Forget what has ended, and end what took too long."""
        self.accepted = {each for each in self.accepted if not each.transport.is_closing()}
        for each in self.accepted:
            if each.deadline is not None and now >= each.deadline:
                reset(each.transport)
        for door in list(self.unproven):
            if now >= door.deadline:
                door.fail("it took too long to prove the secret")

    def review(self) -> None:
        """Judge every open connection again. A client that is denied is cut off at once, others end after a while."""
        for each in self.accepted:
            refusal = self.refuse_again(each.node, each.delivery, is_judged=each.is_judged)
            if refusal is not None and refusal.status == 403:
                reset(each.transport)
            elif refusal is not None:
                each.deadline = self.clock.now + GRACE_S if each.deadline is None else each.deadline
            else:
                each.deadline = None

    def refuse_again(self, node: str, delivery: Delivery, *, is_judged: bool) -> Refusal | None:
        """Return why a connection that was allowed is not allowed now; `is_judged`: each request is judged."""
        try:
            verdict = self.rules.judge_again(node, delivery)
        except Exception:  # fail closed, but not at once: the next configuration may repair it
            return FAILED
        if isinstance(verdict, Refusal):
            return verdict
        return FAILED if isinstance(verdict, ByRequest) and not is_judged else None

    def abort(self) -> None:
        """Reset every connection."""
        for door in (*self.unproven, *self.deciding):
            door.fail("the node ends")
        for each in self.accepted:
            reset(each.transport)


class Door(LineProtocol):
    """One connection of another node, until it is joined with a server."""

    def __init__(self, receiver: Receiver) -> None:
        super().__init__()
        self._receiver = receiver
        self._challenge = make_challenge()
        self._task: asyncio.Task[None] | None = None
        self.deadline = receiver.clock.now + PROOF_S

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send a challenge."""
        super().connection_made(transport)
        assert self.transport is not None
        if len(self._receiver.unproven) >= UNPROVEN_LIMIT:
            self.fail("too many connections have proven nothing")
            return
        self._receiver.unproven.add(self)
        self.transport.write(render_greeting(self._challenge))

    def on_line(self, line: bytes) -> None:
        """Ask the rules about the question. Raises ValueError."""
        receiver = self._receiver
        if self._task is not None:
            raise ValueError("a line before the answer")
        question = parse_question(line, secret=receiver.secret, challenge=self._challenge, receiver=receiver.own_name)
        receiver.unproven.discard(self)
        receiver.deciding.add(self)
        self._task = asyncio.get_running_loop().create_task(self._serve(question))

    def on_failed(self, reason: str) -> None:
        """Stop deciding."""
        self._receiver.unproven.discard(self)
        self._receiver.deciding.discard(self)
        if self._task is not None:
            self._task.cancel()

    async def _serve(self, question: Question) -> None:
        receiver, delivery, is_judged = self._receiver, question.delivery, False
        try:
            verdict = await receiver.rules.judge(question.node, delivery) if receiver.has_room else NO_ROOM
            if isinstance(verdict, Refusal):
                target: Any = verdict
            elif verdict is None:
                target = await self._connect(delivery)
            else:
                is_judged = True
                target = await receiver.open_delivery(delivery)
        except Exception:  # fail closed
            target = FAILED
        receiver.deciding.discard(self)
        refusal = receiver.refuse_again(question.node, delivery, is_judged=is_judged)
        if refusal is not None and not isinstance(target, Refusal):  # the configuration has changed meanwhile
            _discard(target)
            target = refusal
        transport = self.transport
        if self._has_ended or transport is None:
            _discard(target)
        elif isinstance(target, Refusal):
            self._has_ended = True
            self._answer(transport, question, Answer(target.status, target.reason))
            transport.close()
        else:
            self._answer(transport, question, Answer(200))
            receiver.accepted.add(Accepted(transport, question, is_judged=is_judged))
            self._join(target)

    def _answer(self, transport: asyncio.Transport, question: Question, answer: Answer) -> None:
        transport.write(render_answer(answer, secret=self._receiver.secret, challenge=question.challenge))

    async def _connect(self, delivery: Delivery) -> Side | Refusal:
        """Connect to the server of a delivery."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._receiver.connect_timeout_s):
                _, side = await loop.create_connection(Side, delivery.address, delivery.port)
        except TimeoutError:
            return TOO_SLOW
        except OSError:
            return REFUSED
        return side

    def _join(self, target: Any) -> None:
        """Hand the connection to the HTTP engine, or join it with the server's."""
        if not isinstance(target, Side):
            self.hand_over(target)
            return
        side = Side()
        side.other = target
        target.join(side)
        self.hand_over(side)


def _discard(target: Any) -> None:
    """Close the connection to a server that is not needed any more."""
    if isinstance(target, Side) and target.transport is not None:
        reset(target.transport)
