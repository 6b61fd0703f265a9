"""Checks whether the ports of `maesh up` are free before anything is started.

Otherwise a port that is in use would be detected late or not at all: the proxy shares its ports among workers
(SO_REUSEPORT), so a second mesh of the same user could receive half of the connections of the first.
"""

import contextlib
import errno
import socket
from collections.abc import Iterable

from maesh_core.errors import StartupError
from maesh_core.model.addresses import bracket_address
from maesh_core.model.configuration import PortStatus
from maesh_core.model.messages import ServiceReport
from maesh_core.settings import UpSettings

_PORT_FAULTS = (errno.EADDRINUSE, errno.EACCES)
"""For these errors another port may help; for all others the address is the cause."""

_OWN = "own http"
_ENTRYPOINT_FLAGS = {
    "http": "--http-port",
    _OWN: "--own-http-port",
    "tcp": "--tcp-port",
    "udp": "--set udp.port=NUMBER",
}


def find_local_host(bind: str) -> str:
    """Return the host, in the notation of a URL, with which this machine reaches a server that listens on `bind`."""
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(bind, bind)  # noqa: S104 - compared, not bound
    return bracket_address(host)


def check_ports(settings: UpSettings) -> int:
    """Raise StartupError if the API's or the admin port is in use. Returns the admin port, chosen here if it is 0."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(_bind(settings.bind, settings.api_port, hint="--api-port sets another port"))
        admin = stack.enter_context(_bind(settings.bind, settings.admin_port, hint="--admin-port sets another port"))
        port: int = admin.getsockname()[1]
        return port


def check_entrypoints(settings: UpSettings, reports: Iterable[ServiceReport]) -> None:
    """Raise StartupError if the port of an entrypoint is in use."""
    wanted = {
        (port.entrypoint, _find_kind(report, port))
        for report in reports
        for port in report.ports
        if port.entrypoint is not None
    }
    for number, traffic_type in sorted(wanted):
        hint = f"{_ENTRYPOINT_FLAGS.get(traffic_type, '--http-port')} sets other {traffic_type} entrypoints"
        _bind(settings.bind, number, hint=hint, is_datagram=traffic_type == "udp").close()


def _find_kind(report: ServiceReport, port: PortStatus) -> str:
    """Find which entrypoints a port is on: those of its traffic type, or the own ones of HTTP."""
    return _OWN if port.has_own_entrypoint else port.traffic_type or report.traffic_type or "http"


def _bind(host: str, port: int, *, hint: str, is_datagram: bool = False) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM if is_datagram else socket.SOCK_STREAM)
    try:
        if not is_datagram:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        if not is_datagram:
            sock.listen(1)
    except OSError as error:
        sock.close()
        moves = hint if error.errno in _PORT_FAULTS else "--bind sets the address"
        text = f"cannot listen on port {port} of {host or 'all addresses'}: {error.strerror or error}; {moves}"
        raise StartupError(text) from error
    return sock
