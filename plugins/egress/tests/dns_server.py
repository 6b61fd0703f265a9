"""A DNS server on loopback, over UDP and TCP, whose records a test decides."""

import contextlib
import socket
import threading
from collections.abc import Iterator

import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rrset


class DnsServer:
    """Answers for `records`, by name and type; `away` lets it answer nothing, `rcode` answers with an error.

    `questions` are those that it received, with the transport.
    """

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], tuple[int, list[str]]] = {}
        self.aliases: dict[str, tuple[int, str]] = {}
        self.is_away = False
        self.rcode = dns.rcode.NOERROR
        self.truncates = False
        self.negative_ttl = 7
        self.questions: list[tuple[str, str, str]] = []
        self._udp, self._tcp = _open_pair()
        self.port: int = self._udp.getsockname()[1]
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._serve_udp, self._serve_tcp)]
        for thread in self._threads:
            thread.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def set(self, name: str, *addresses: str, ttl: int = 60) -> None:
        """Let a name have these addresses, and no others."""
        for kind, is_mine in (("A", lambda text: ":" not in text), ("AAAA", lambda text: ":" in text)):
            self.records[f"{name}.", kind] = (ttl, [text for text in addresses if is_mine(text)])

    def close(self) -> None:
        for sock in (self._udp, self._tcp):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        for thread in self._threads:
            thread.join(60)

    def _serve_udp(self) -> None:
        while True:
            try:
                data, client = self._udp.recvfrom(4096)
            except OSError:
                return
            if not data:  # the socket was shut down
                return
            response = self._answer(data, "udp")
            if response is not None:
                with contextlib.suppress(OSError):
                    self._udp.sendto(response.to_wire(), client)

    def _serve_tcp(self) -> None:
        while True:
            try:
                connection, _ = self._tcp.accept()
            except OSError:
                return
            with connection:
                query, _ = dns.query.receive_tcp(connection)
                response = self._answer(query.to_wire(), "tcp")
                if response is not None:
                    dns.query.send_tcp(connection, response)

    def _answer(self, data: bytes, transport: str) -> dns.message.Message | None:
        query = dns.message.from_wire(data)
        question = query.question[0]
        name, kind = str(question.name).lower(), dns.rdatatype.to_text(question.rdtype)
        self.questions.append((name, kind, transport))
        if self.is_away:
            return None
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        if self.rcode != dns.rcode.NOERROR:
            response.set_rcode(self.rcode)
            return response
        if self.truncates and transport == "udp":
            response.flags |= dns.flags.TC
            return response
        while name in self.aliases:
            ttl, target = self.aliases[name]
            response.answer.append(dns.rrset.from_text(name, ttl, "IN", "CNAME", target))
            name = target
        if (name, kind) not in self.records:
            response.set_rcode(dns.rcode.NXDOMAIN)
        ttl, addresses = self.records.get((name, kind), (0, []))
        if addresses:
            response.answer.append(dns.rrset.from_text(name, ttl, "IN", kind, *addresses))
        else:
            soa = f"ns.test. root.test. 1 2 3 4 {self.negative_ttl}"
            response.authority.append(dns.rrset.from_text(".", 300, "IN", "SOA", soa))
        return response


def _open_pair() -> tuple[socket.socket, socket.socket]:
    """Open a UDP and a TCP socket with the same port: another process may have one of them."""
    while True:
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind(("127.0.0.1", 0))
        try:
            return udp, socket.create_server(udp.getsockname())
        except OSError:
            udp.close()


@contextlib.contextmanager
def serve_dns() -> Iterator[DnsServer]:
    server = DnsServer()
    try:
        yield server
    finally:
        server.close()
