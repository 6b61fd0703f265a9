"""The fields that tell an upstream who called: X-Forwarded-For, -Host, -Port, -Proto, -Server and X-Real-Ip.

The client's address is appended to X-Forwarded-For, X-Forwarded-Server is the mesh's, the others are set where the
client sent none (an ingress in front must survive). Nothing in the mesh ever decides on them (Traefik, Maesh).
"""

from maesh_core.proxy.protocol.http.syntax import parse_port


class ForwardedFields:
    """One client connection's fields, rendered once for as long as it asks for one host."""

    __slots__ = ("_address", "_authority", "_rendered", "_server")

    def __init__(self, address: str, server: bytes) -> None:
        self._address = address.encode()
        self._server = server
        self._authority: bytes | None = None
        self._rendered = b""

    def render(self, authority: bytes, sent: dict[bytes, bytes] | None) -> bytes:
        """Render the end of a request head to `authority`; `sent` is what the client sent, by lower-case name."""
        if sent is not None:
            return self._render(authority, sent)
        if authority != self._authority:
            self._rendered = self._render(authority, {})
            self._authority = authority
        return self._rendered

    def _render(self, authority: bytes, sent: dict[bytes, bytes]) -> bytes:
        chain = sent.get(b"x-forwarded-for")
        proto = sent.get(b"x-forwarded-proto", b"http")
        port = parse_port(authority) or (b"443" if proto.lower() in (b"https", b"wss") else b"80")
        return b"".join(
            (
                b"X-Forwarded-For: ",
                chain + b", " + self._address if chain else self._address,
                b"\r\nX-Forwarded-Host: ",
                sent.get(b"x-forwarded-host", authority),
                b"\r\nX-Forwarded-Port: ",
                sent.get(b"x-forwarded-port", port),
                b"\r\nX-Forwarded-Proto: ",
                proto,
                b"\r\nX-Forwarded-Server: ",
                self._server,
                b"\r\nX-Real-Ip: ",
                sent.get(b"x-real-ip", self._address),
                b"\r\n\r\n",
            )
        )
