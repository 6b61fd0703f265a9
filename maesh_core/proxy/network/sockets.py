"""Opens the listening sockets of entrypoints and the admin port: bound, non-blocking, on one address or all.

Takes transport, address and port. Returns sockets that no event loop watches yet, or raises OSError.
"""

import errno
import socket

from maesh_core.model.addresses import join_port

BACKLOG = 4096
"""Connections that may wait in the accept queue; the kernel limits it to `net.core.somaxconn`."""

_SOCKET_TYPES = {"TCP": socket.SOCK_STREAM, "UDP": socket.SOCK_DGRAM}
_NO_IPV6 = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT})


def open_sockets(transport: str, host: str, port: int, *, is_shared: bool = False) -> list[socket.socket]:
    """Bind sockets and, for TCP, listen. An empty host means all addresses; a shared port may be bound again.

    IPv6 gets a socket of its own if the system supports it: on a shared socket, an IPv4 client would have an address
    such as `::ffff:10.0.0.1`, which rules do not match.
    """
    if host:
        # Pass bytes if possible: for text, Python loads its tables of international names (0.3 MB).
        name = host.encode("ascii") if host.isascii() else host
        family, _, _, _, address = socket.getaddrinfo(
            name, port, type=_SOCKET_TYPES[transport], flags=socket.AI_PASSIVE
        )[0]
        return [_bind(transport, family, address, is_shared=is_shared)]
    sockets = [_bind(transport, socket.AF_INET, ("0.0.0.0", port), is_shared=is_shared)]  # noqa: S104 - the caller asked for all addresses
    try:
        sockets.append(_bind(transport, socket.AF_INET6, ("::", sockets[0].getsockname()[1]), is_shared=is_shared))
    except OSError as error:
        if error.errno not in _NO_IPV6:
            sockets[0].close()
            raise
    return sockets


def open_socket_group(transport: str, host: str, port: int, *, size: int) -> list[list[socket.socket]]:
    """Bind a port `size` times, once per process; the kernel distributes clients over the sockets (SO_REUSEPORT).

    The first socket is bound without that option, which is set afterwards. Binding therefore fails if another process
    has the port, even one of the same user that shares its ports.
    """
    group = [open_sockets(transport, host, port)]
    try:
        if size > 1:
            for sock in group[0]:
                _share(sock)
        bound_port = group[0][0].getsockname()[1]
        while len(group) < size:
            group.append(open_sockets(transport, host, bound_port, is_shared=True))
    except BaseException:
        for sockets in group:
            for sock in sockets:
                sock.close()
        raise
    return group


def describe_address(host: str, port: int) -> str:
    """Render an address for an error message."""
    if not host:
        return f"port {port} on all addresses"
    return join_port(host, port)


def describe_reason(error: OSError) -> str:
    """Return the system's text for why a socket could not be opened."""
    return error.strerror or str(error) or type(error).__name__


def _share(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


def _bind(transport: str, family: int, address: tuple[object, ...], *, is_shared: bool) -> socket.socket:
    sock = socket.socket(family, _SOCKET_TYPES[transport])
    try:
        sock.setblocking(False)  # noqa: FBT003 - the method's name makes it clear
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if transport == "TCP":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_shared:
            _share(sock)
        sock.bind(address)
        if transport == "TCP":
            sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock
