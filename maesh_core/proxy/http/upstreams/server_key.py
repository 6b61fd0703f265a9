"""The value that identifies a server of HTTP services, and the key of the handler's servers."""

from typing import NamedTuple

from maesh_core.model.addresses import join_port


class ServerKey(NamedTuple):
    """Servers with the same key share one pool of connections and one health state.

    The name is part of the key because a connection that was verified for one name is not valid for another. `mode` is
    that of the service's encryption, and empty for `off`; the node is only set with a mode. So a strict and a
    permissive service never share connections. `is_guarded` means that each connection belongs to one client.

    The last three fields are those of a server outside of the mesh: the DNS name that was resolved to the address, for
    which its certificate must be; the Host to send if it is not the client's; and whether it gets no fields that
    identify the client.
    """

    scheme: str
    address: str
    port: int
    tls_name: str = ""
    node: str = ""
    mode: str = ""
    is_guarded: bool = False
    name: str = ""
    authority: str = ""
    hides_client: bool = False

    def __str__(self) -> str:
        return f"{self.scheme}://{join_port(self.address, self.port)}"
