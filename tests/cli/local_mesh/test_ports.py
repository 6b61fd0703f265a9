"""`maesh up` finds ports that are taken before it starts anything."""

import socket

import pytest

from maesh_core.cli.local_mesh.ports import check_entrypoints, check_ports, find_local_host
from maesh_core.errors import StartupError
from maesh_core.model.configuration import PortStatus
from maesh_core.model.messages import ServiceReport
from maesh_core.settings import UpSettings


@pytest.fixture
def taken():
    """Listen on a port as a proxy's worker does, so that another one of this user could share it."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield sock.getsockname()[1]


def test_free_ports_are_fine_and_an_admin_port_is_chosen():
    assert check_ports(UpSettings(api_port=0, admin_port=0)) > 0


@pytest.mark.parametrize("flag", ["--api-port", "--admin-port"])
def test_taken_port_is_an_error_with_the_port_and_the_flag_that_moves_it(taken, flag):
    ports = {"api_port": 0, "admin_port": 0, flag[2:].replace("-", "_"): taken}
    with pytest.raises(StartupError, match=rf"port {taken} of 127\.0\.0\.1: Address already in use; {flag} sets"):
        check_ports(UpSettings(**ports))


def test_one_port_for_api_and_admin_is_an_error(taken):
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        free = sock.getsockname()[1]
    with pytest.raises(StartupError, match="--admin-port"):
        check_ports(UpSettings(api_port=free, admin_port=free))


@pytest.mark.parametrize(("traffic_type", "flag"), [("http", "--http-port"), ("tcp", "--tcp-port")])
def test_taken_entrypoint_is_an_error_with_the_flag_that_moves_it(taken, traffic_type, flag):
    ports = (
        PortStatus(name="", port=80, protocol="TCP", entrypoint=taken),
        PortStatus(name="b", port=81, protocol="TCP"),
    )
    report = ServiceReport(namespace="a", name="b", host="b.a.maesh", traffic_type=traffic_type, ports=ports)
    with pytest.raises(StartupError, match=rf"port {taken} .*{flag} sets other {traffic_type} entrypoints"):
        check_entrypoints(UpSettings(), [report])


def test_address_that_this_machine_does_not_have_is_an_error():
    with pytest.raises(StartupError, match=r"192\.0\.2\.1: .*; --bind sets the address"):
        check_ports(UpSettings(bind="192.0.2.1", api_port=0, admin_port=0))


@pytest.mark.parametrize(
    ("bind", "host"),
    [("", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("::1", "[::1]"), ("127.0.0.2", "127.0.0.2")],
)
def test_what_listens_is_reached_by_an_address_of_this_machine(bind, host):
    assert find_local_host(bind) == host
