"""Sockets that entrypoints and the admin port listen on: bound, non-blocking, on one address or on all.

Takes transport, address and port; gives sockets that are not yet in any event loop, or raises OSError.
"""

import errno
import socket

BACKLOG = 4096
"""Connections that may wait to be accepted; the kernel takes less where `net.core.somaxconn` says so."""

_SOCKET_TYPES = {"TCP": socket.SOCK_STREAM, "UDP": socket.SOCK_DGRAM}
_NO_IPV6 = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT})


def open_sockets(transport: str, host: str, port: int) -> list[socket.socket]:
    """Bind sockets and, for TCP, listen. An empty host means all addresses.

    Those of IPv6, where there are, get a socket of their own: on a shared one an IPv4 client would have an address
    such as `::ffff:10.0.0.1`, which no rule names.
    """
    if host:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=_SOCKET_TYPES[transport], flags=socket.AI_PASSIVE
        )[0]
        return [_bind(transport, family, address)]
    sockets = [_bind(transport, socket.AF_INET, ("0.0.0.0", port))]  # noqa: S104 - all addresses were asked for
    try:
        sockets.append(_bind(transport, socket.AF_INET6, ("::", sockets[0].getsockname()[1])))
    except OSError as error:
        if error.errno not in _NO_IPV6:
            sockets[0].close()
            raise
    return sockets


def describe_address(host: str, port: int) -> str:
    """Render an address for an error's text."""
    if not host:
        return f"port {port} of all addresses"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def describe_reason(error: OSError) -> str:
    """Say why a socket could not be opened, in the words of the system."""
    return error.strerror or str(error) or type(error).__name__


def _bind(transport: str, family: int, address: tuple[object, ...]) -> socket.socket:
    sock = socket.socket(family, _SOCKET_TYPES[transport])
    try:
        sock.setblocking(False)  # noqa: FBT003 - the name of the method says it
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if transport == "TCP":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        if transport == "TCP":
            sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock
