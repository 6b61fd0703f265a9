"""Sockets on real addresses of this machine."""

import errno
import socket
from collections.abc import Iterator

import pytest

from maesh_core.proxy.network.sockets import describe_address, open_socket_group, open_sockets


@pytest.fixture
def bound() -> Iterator[list[socket.socket]]:
    sockets: list[socket.socket] = []
    yield sockets
    for sock in sockets:
        sock.close()


@pytest.mark.parametrize(("transport", "kind"), [("TCP", socket.SOCK_STREAM), ("UDP", socket.SOCK_DGRAM)])
def test_a_socket_is_bound_and_does_not_block(bound: list[socket.socket], transport: str, kind: int) -> None:
    bound += open_sockets(transport, "127.0.0.1", 0)
    (sock,) = bound
    assert sock.type == kind
    assert sock.getsockname()[0] == "127.0.0.1"
    assert not sock.getblocking()
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == (transport == "TCP")


def test_all_addresses_share_one_port_and_keep_the_addresses_of_ipv4_clients(bound: list[socket.socket]) -> None:
    bound += open_sockets("TCP", "", 0)
    assert len({sock.getsockname()[1] for sock in bound}) == 1
    with socket.create_connection(("127.0.0.1", bound[0].getsockname()[1]), 5):
        accepted, address = bound[0].accept()
        accepted.close()
    assert address[0] == "127.0.0.1"


def test_all_addresses_are_those_of_ipv4_where_there_is_no_ipv6(
    bound: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = socket.socket

    def refuse_ipv6(family: int, type_: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "no IPv6")
        return real(family, type_)

    monkeypatch.setattr("maesh_core.proxy.network.sockets.socket.socket", refuse_ipv6)
    bound += open_sockets("TCP", "", 0)
    assert [sock.getsockname()[0] for sock in bound] == ["0.0.0.0"]


@pytest.mark.parametrize("transport", ["TCP", "UDP"])
def test_a_group_shares_one_port_over_which_clients_are_spread(bound: list[socket.socket], transport: str) -> None:
    group = open_socket_group(transport, "127.0.0.1", 0, size=2)
    bound += [sock for sockets in group for sock in sockets]
    kind = socket.SOCK_STREAM if transport == "TCP" else socket.SOCK_DGRAM
    for _ in range(64):
        client = socket.socket(type=kind)
        bound.append(client)
        client.connect(group[0][0].getsockname())
        client.send(b"x")
    received = []
    for (sock,) in group:
        count = 0
        while True:
            try:
                if transport == "TCP":
                    sock.accept()[0].close()
                else:
                    sock.recv(1)
            except BlockingIOError:
                break
            count += 1
        received.append(count)
    assert sum(received) == 64
    assert min(received) > 0


@pytest.mark.parametrize("transport", ["TCP", "UDP"])
@pytest.mark.parametrize("size", [1, 2])
def test_a_group_does_not_join_that_of_another_process_of_the_same_user(
    bound: list[socket.socket], transport: str, size: int
) -> None:
    group = open_socket_group(transport, "127.0.0.1", 0, size=size)
    bound += [sock for sockets in group for sock in sockets]
    with pytest.raises(OSError, match="in use"):
        open_socket_group(transport, "127.0.0.1", bound[0].getsockname()[1], size=size)


def test_a_group_on_all_addresses_has_every_one_in_every_slot(bound: list[socket.socket]) -> None:
    group = open_socket_group("TCP", "", 0, size=3)
    bound += [sock for sockets in group for sock in sockets]
    assert len({len(sockets) for sockets in group}) == 1
    assert len({sock.getsockname()[1] for sock in bound}) == 1


@pytest.mark.parametrize("host", ["", "127.0.0.1"])
def test_a_port_that_is_taken_is_an_error(bound: list[socket.socket], host: str) -> None:
    bound += open_sockets("TCP", "127.0.0.1", 0)
    with pytest.raises(OSError, match="in use"):
        open_sockets("TCP", host, bound[0].getsockname()[1])


def test_a_port_that_is_taken_on_ipv6_alone_is_an_error(bound: list[socket.socket]) -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    bound += open_sockets("TCP", "::1", 0)
    with pytest.raises(OSError, match="in use"):
        open_sockets("TCP", "", bound[0].getsockname()[1])


def test_addresses_read_as_users_write_them() -> None:
    assert describe_address("127.0.0.1", 80) == "127.0.0.1:80"
    assert describe_address("::1", 80) == "[::1]:80"
    assert describe_address("", 80) == "port 80 on all addresses"
