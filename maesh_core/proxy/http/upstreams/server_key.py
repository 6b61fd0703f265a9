"""What identifies a server of HTTP services: a value, and a key of the handler's servers."""

from typing import NamedTuple


class ServerKey(NamedTuple):
    """What makes two servers one, with one pool of connections and one health: how and where to connect.

    A connection that was verified for one name is not valid for another, so the name is part of the key.
    """

    scheme: str
    address: str
    port: int
    tls_name: str = ""

    def __str__(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{self.scheme}://{host}:{self.port}"
