"""The value that identifies a server of HTTP services, and the key of the handler's servers."""

from typing import NamedTuple


class ServerKey(NamedTuple):
    """Servers with the same key share one pool of connections and one health state.

    The name is part of the key because a connection that was verified for one name is not valid for another.
    """

    scheme: str
    address: str
    port: int
    tls_name: str = ""

    def __str__(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{self.scheme}://{host}:{self.port}"
