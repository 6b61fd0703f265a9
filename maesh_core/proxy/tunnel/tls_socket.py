"""TLS by hand: a pair of memory BIOs on a non-blocking socket. Shares its buffers with all tunnels of the worker.

Small reads become `bytes`, which cost least. After a large one, the socket is read into the shared buffer and decrypted
into a second one, which costs less than `SSLSocket` and much less than the TLS of an event loop: one system call for up
to 256 KiB, and no allocation. Raises ssl.SSLError and OSError; link.py decides what they mean.
"""

import contextlib
import socket
import ssl
from typing import Any, Final

from maesh_core.proxy.tunnel.environment import RECORD_BYTES, TunnelEnvironment
from maesh_core.proxy.tunnel.limits import LARGE_READS, READ_BYTES, SMALL_READ_BYTES

WRITE_BYTES: Final = 300000
"""Encrypted bytes that are taken from OpenSSL at once: those of a batch."""
WOULD_BLOCK: Final = -1


class TlsSocket:
    """One TLS connection on a socket, which it owns."""

    __slots__ = (
        "_environment",
        "_incoming",
        "_is_at_end",
        "_large_reads",
        "_outgoing",
        "_read_plain",
        "_sent",
        "_unsent",
        "_write_plain",
        "decrypted",
        "decrypted_to",
        "has_ended",
        "has_more",
        "object",
        "sock",
        "was_full",
    )

    def __init__(
        self,
        environment: TunnelEnvironment,
        sock: socket.SocketType,
        context: ssl.SSLContext,
        *,
        is_server: bool,
        session: ssl.SSLSession | None = None,
    ) -> None:
        self._environment = environment
        self.sock = sock
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.object = context.wrap_bio(self._incoming, self._outgoing, server_side=is_server, session=session)
        connection: Any = getattr(self.object, "_sslobj", self.object)  # without the layer of Python between
        self._read_plain = connection.read
        self._write_plain = connection.write
        self._unsent = b""
        self._sent = 0
        self._is_at_end = False
        self._large_reads = 0
        """How many further reads use the shared buffer, because a large read came before."""
        self.was_full = False
        """Whether the last read was as large as it could be, so that more may have arrived."""
        self.decrypted = b""
        self.decrypted_to = 0
        self.has_more = False
        self.has_ended = False
        """Whether the peer has said that it sends no more (close_notify)."""

    def __repr__(self) -> str:
        return f"<TlsSocket {self.sock.fileno()} unsent={self.unsent_bytes}>"

    def shake(self) -> bool:
        """Continue the handshake with the bytes that were fed; return whether it is complete."""
        try:
            self.object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        finally:
            self.flush()  # also what says why it has failed
        return True

    # --- reading

    def feed(self) -> int:
        """Read once from the socket; return the number of bytes, 0 at the end, or WOULD_BLOCK."""
        self.was_full = False
        if self._large_reads:
            return self._feed_large()
        try:
            data = self.sock.recv(SMALL_READ_BYTES)
        except BlockingIOError:
            return WOULD_BLOCK
        count = len(data)
        if not count:
            self._end_input()
            return 0
        self._incoming.write(data)
        if count == SMALL_READ_BYTES:
            self.was_full = True
            self._large_reads = LARGE_READS
        return count

    def _feed_large(self) -> int:
        cipher = self._environment.cipher
        try:
            count = self.sock.recv_into(cipher)
        except BlockingIOError:
            return WOULD_BLOCK
        if not count:
            self._end_input()
            return 0
        self._incoming.write(cipher[:count])
        self.was_full = count == READ_BYTES
        self._large_reads = LARGE_READS if count >= SMALL_READ_BYTES else self._large_reads - 1
        return count

    def _end_input(self) -> None:
        self._incoming.write_eof()
        self._is_at_end = True

    def decrypt_small(self) -> bytes:
        """Decrypt what was fed, if that is little and not the end; see `decrypt`.

        If it raises, `decrypted` has the bytes before the error.
        """
        data = b""
        self.has_more = False
        read = self._read_plain
        incoming = self._incoming
        try:
            while incoming.pending:
                record: bytes = read(RECORD_BYTES)
                if not record:
                    self.has_ended = True
                    break
                data = data + record if data else record
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            self.decrypted = data
            raise
        return data

    def decrypt(self, start: int) -> int:
        """Decrypt what was fed into the environment's `plain` from `start`; return where it ends.

        Stops when the buffer is full, and `has_more` is set then. Sets `has_ended` at the peer's close_notify. If it
        raises, `decrypted_to` is where the bytes before the error end.
        """
        self.decrypted_to = at = start
        self.has_more = False
        view = self._environment.plain_view
        limit = len(view) - RECORD_BYTES
        read = self._read_plain  # with a buffer it returns a number
        incoming = self._incoming
        try:
            while incoming.pending or self._is_at_end:
                if at > limit:
                    self.has_more = True
                    break
                count: int = read(READ_BYTES, view[at:] if at else view)
                if count == 0:
                    self.has_ended = True
                    break
                self.decrypted_to = at = at + count
        except ssl.SSLWantReadError:
            pass
        return at

    # --- writing

    @property
    def is_blocked(self) -> bool:
        """Whether the socket has not accepted everything at the last flush."""
        return len(self._unsent) > 0

    @property
    def unsent_bytes(self) -> int:
        """Encrypted bytes that the socket has not accepted; 0 if it has accepted everything at the last flush."""
        return len(self._unsent) - self._sent + self._outgoing.pending if self._unsent else 0

    def write(self, data: bytes | memoryview) -> None:
        """Encrypt bytes, to be sent by `flush`."""
        write = self._write_plain
        written: int = write(data)
        while written < len(data):
            written += write(memoryview(data)[written:])

    def flush(self) -> None:
        """Send as much as the socket accepts."""
        while True:
            unsent = self._unsent
            if not unsent:
                self._unsent = unsent = self._outgoing.read(WRITE_BYTES)
                if not unsent:
                    return
            try:
                self._sent += self.sock.send(memoryview(unsent)[self._sent :] if self._sent else unsent)
            except BlockingIOError:
                return
            if self._sent == len(unsent):
                self._unsent, self._sent = b"", 0
                if len(unsent) < WRITE_BYTES:  # that was everything
                    return

    def flush_answers(self) -> None:
        """Send what TLS itself answers to what was read, such as an update of keys: seldom anything."""
        if self._unsent or self._outgoing.pending:
            self.flush()

    def discard_unsent(self) -> None:
        """Forget what the socket will never accept."""
        self._unsent, self._sent = b"", 0
        self._outgoing.read()

    def say_goodbye(self) -> None:
        """Send close_notify, so that the peer knows that nothing was cut off."""
        with contextlib.suppress(ssl.SSLError):  # it waits for the peer's, which does not matter
            self.object.unwrap()
        self.flush()
