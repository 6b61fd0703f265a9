"""Sockets on real addresses of this machine."""

import errno
import socket

import pytest

from maesh_core.proxy.sockets import describe_address, open_socket


@pytest.mark.parametrize(("transport", "kind"), [("TCP", socket.SOCK_STREAM), ("UDP", socket.SOCK_DGRAM)])
def test_a_socket_is_bound_and_does_not_block(transport: str, kind: int) -> None:
    with open_socket(transport, "127.0.0.1", 0) as sock:
        assert sock.type == kind
        assert sock.getsockname()[0] == "127.0.0.1"
        assert not sock.getblocking()
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == (transport == "TCP")


def test_all_addresses_take_ipv4_too() -> None:
    with open_socket("TCP", "", 0) as sock, socket.create_connection(("127.0.0.1", sock.getsockname()[1]), 5):
        pass


def test_all_addresses_are_those_of_ipv4_where_there_is_no_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket

    def refuse_ipv6(family: int, type_: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "no IPv6")
        return real(family, type_)

    monkeypatch.setattr("maesh_core.proxy.sockets.socket.socket", refuse_ipv6)
    with open_socket("TCP", "", 0) as sock:
        assert sock.getsockname()[0] == "0.0.0.0"


@pytest.mark.parametrize("host", ["", "127.0.0.1"])
def test_a_port_that_is_taken_is_an_error(host: str) -> None:
    with open_socket("TCP", "127.0.0.1", 0) as taken, pytest.raises(OSError, match="in use"):
        open_socket("TCP", host, taken.getsockname()[1])


def test_addresses_read_as_users_write_them() -> None:
    assert describe_address("127.0.0.1", 80) == "127.0.0.1:80"
    assert describe_address("::1", 80) == "[::1]:80"
    assert describe_address("", 80) == "port 80 of all addresses"
