"""An open entrypoint: one socket that all its clients send to, and that all answers leave by.

On a socket bound to all addresses a client is told apart by the address it sent to as well, and answered from it:
the kernel would choose one by the way back, and a connected client takes answers from no other address (RFC 1122
section 4.1.3.5).
"""

import contextlib
import select
import socket
import struct
from typing import TYPE_CHECKING, Any

from maesh_udp.session import DATAGRAM_BYTES, Session

if TYPE_CHECKING:
    from maesh_udp.proxy import UdpHandler

DATAGRAMS_IN_A_TURN = 64
RECEIVE_BUFFER_BYTES = 4 << 20
"""What may wait while the worker does something else; the kernel gives less where `net.core.rmem_max` says so."""
_IP_PKTINFO = 8
"""ip(7); Python's socket module does not have it."""
_ANCILLARY_BYTES = socket.CMSG_SPACE(20)
"""Room for in6_pktinfo, the larger of the two."""

ClientKey = tuple[tuple[Any, ...], bytes]
"""The client's socket address, and the local one that it sent to, as bytes; these are empty on a bound socket."""


class UdpListener:
    """Implements `hookspecs.Listener`. `sessions` are those that take what comes."""

    __slots__ = ("_alive", "_handler", "_is_open", "_sock", "answer", "entrypoint", "sessions")

    def __init__(self, handler: "UdpHandler", sock: socket.socket, entrypoint: int) -> None:
        self._handler, self._sock, self.entrypoint = handler, sock, entrypoint
        self._is_open = True
        self._alive = 0
        self.sessions: dict[ClientKey, Session] = {}
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        on_event = self._on_event
        self.answer = self._answer
        if sock.getsockname()[0] in ("0.0.0.0", "::"):  # noqa: S104 - asked, not bound
            on_event, self.answer = self._on_event_anywhere, self._answer_from
            if sock.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            else:
                sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        handler.sockets.watch(sock.fileno(), on_event, select.EPOLLIN)

    def __repr__(self) -> str:
        return f"<UdpListener {self.entrypoint} sessions={len(self.sessions)} open={self._is_open}>"

    def _on_event(self, events: int) -> None:
        receive, sessions = self._sock.recvfrom, self.sessions
        for _ in range(DATAGRAMS_IN_A_TURN):
            try:
                data, address = receive(DATAGRAM_BYTES)
            except BlockingIOError:
                return
            key = (address, b"")
            session = sessions.get(key)
            if session is None or not session.forward(data):
                self._handler.begin(self, key, data)

    def _on_event_anywhere(self, events: int) -> None:
        receive, sessions = self._sock.recvmsg, self.sessions
        for _ in range(DATAGRAMS_IN_A_TURN):
            try:
                data, ancillary, _, address = receive(DATAGRAM_BYTES, _ANCILLARY_BYTES)
            except BlockingIOError:
                return
            key = (address, _read_local_address(ancillary))
            session = sessions.get(key)
            if session is None or not session.forward(data):
                self._handler.begin(self, key, data)

    def _answer(self, data: bytes, key: ClientKey) -> None:
        self._sock.sendto(data, key[0])

    def _answer_from(self, data: bytes, key: ClientKey) -> None:
        address, local = key
        self._sock.sendmsg((data,), _build_ancillary(local), 0, address)

    def close(self) -> None:
        """Take no more datagrams; the socket stays until the last answer has left by it."""
        if self._is_open:
            self._is_open = False
            self._handler.sockets.forget(self._sock.fileno())
            for session in list(self.sessions.values()):
                session.detach()
            self._close_if_left()

    def add(self, session: Session) -> None:
        """Have a session take what its client sends."""
        self._alive += 1
        self.sessions[session.key] = session

    def forget(self, session: Session) -> None:
        """Note that a session has ended."""
        self._alive -= 1
        if self.sessions.get(session.key) is session:
            del self.sessions[session.key]
        self._close_if_left()

    def _close_if_left(self) -> None:
        if not self._is_open and not self._alive:
            self._sock.close()


def _read_local_address(ancillary: list[tuple[int, int, bytes]]) -> bytes:
    """Read which of our addresses a datagram was sent to, from in_pktinfo or in6_pktinfo."""
    for _, _, data in ancillary:
        return data[4:8] if len(data) == 12 else data[:16]
    return b""


def _build_ancillary(local: bytes) -> list[tuple[int, int, bytes]]:
    """Have a datagram leave from an address, by whatever way."""
    if len(local) == 4:
        return [(socket.IPPROTO_IP, _IP_PKTINFO, struct.pack("=i4s4s", 0, local, b""))]
    return [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, struct.pack("=16si", local, 0))] if local else []
