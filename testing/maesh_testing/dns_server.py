"""A DNS server on TCP for tests, which answers as a test says. It listens on a loopback address, in a thread."""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Sequence
from typing import Self

import dns.exception
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

Resolve = Callable[[str, str], Sequence[str] | int]
"""Takes a name without the final dot and a type such as `A`; gives addresses, or a response code."""
TTL_S = 30


class TcpDnsServer:
    """A server: `with TcpDnsServer(resolve) as server:`. It answers one query of each connection."""

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, name="DNS", daemon=True)

    def __repr__(self) -> str:
        return f"<TcpDnsServer {self.port}>"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError, struct.error, dns.exception.DNSException):
                connection.settimeout(60)
                self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as reading:
            (length,) = struct.unpack("!H", reading.read(2))
            answer = self._answer(dns.message.from_wire(reading.read(length))).to_wire()
            connection.sendall(struct.pack("!H", len(answer)) + answer)

    def _answer(self, query: dns.message.Message) -> dns.message.Message:
        response = dns.message.make_response(query)
        question = query.question[0]
        kind = dns.rdatatype.to_text(question.rdtype)
        found = self._resolve(question.name.to_text(omit_final_dot=True), kind)
        if isinstance(found, int):
            response.set_rcode(dns.rcode.Rcode(found))
        elif found:
            response.answer.append(dns.rrset.from_text(question.name, TTL_S, "IN", kind, *found))
        return response
