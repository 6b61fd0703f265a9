"""The answers that sessions have received and that their listener has still to send, with one system call for all.

One outbox serves all listeners of a worker, and holds the answers of one listener at a time. It is sent when the
current events are processed, when it is full, or when another listener needs it. Calls a listener only through the
Protocol below.
"""

from collections.abc import Callable
from typing import Protocol, final

from maesh_udp.batches import Layout, Outbox


class AnsweringListener(Protocol):
    """The part of a listener that its answers use."""

    __slots__ = ()

    layout: Layout

    def send_answers(self, outbox: Outbox) -> None:
        """Send the answers in the outbox to clients, and count them."""


@final
class Answers:
    """The outbox of a worker. `finish` runs a function after the current events are processed."""

    __slots__ = ("_finish", "_send", "listener", "outbox")

    def __init__(self, finish: Callable[[Callable[[], None]], None]) -> None:
        self.outbox = Outbox()
        self.listener: AnsweringListener | None = None
        """The listener whose answers are in the outbox."""
        self._finish, self._send = finish, self.send
        """Stored, to avoid a lookup for each answer."""

    def __repr__(self) -> str:
        return f"<Answers {self.outbox.count} of {self.listener!r}>"

    def turn_to(self, listener: AnsweringListener) -> None:
        """Use the outbox for the answers of a listener; those of another one are sent first."""
        if self.listener is not None:
            self.send()
        self.listener = listener
        self.outbox.set_layout(listener.layout)
        self._finish(self._send)

    def send(self) -> None:
        """Send the answers in the outbox."""
        listener, self.listener = self.listener, None
        if listener is not None and self.outbox.count:
            listener.send_answers(self.outbox)

    def send_last(self, listener: AnsweringListener) -> None:
        """Send the last answers of a closing listener."""
        if self.listener is listener:
            self.send()
