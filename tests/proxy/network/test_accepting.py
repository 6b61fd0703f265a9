"""Accepting: how many at a time, and what becomes of errors."""

import errno
import os
import socket
from typing import cast

import pytest

from maesh_core.proxy.network.accepting import STEADY_S, Acceptor, QueueState


class Listening:
    """A listening socket whose next results are given."""

    def __init__(self, *results):
        self.results = list(results)

    def setsockopt(self, *_):
        pass

    def _accept(self):
        if not self.results:
            raise BlockingIOError
        result = self.results.pop(0)
        if isinstance(result, int):
            raise OSError(result, "it failed")
        return socket.socket().detach(), (result, 1)


@pytest.fixture
def accept():
    """Return what accepts up to three clients from a socket, and returns their addresses and what else may wait."""
    clients = []

    def run(listening, acceptor=None):
        addresses = []
        taken = []
        acceptor = acceptor or Acceptor(listening, 5000, print)
        acceptor._on_client = lambda *client: taken.append(client)
        waiting = acceptor.accept(3)
        for descriptor, address, entrypoint in taken:
            assert not os.get_blocking(descriptor)
            assert entrypoint == 5000
            clients.append(descriptor)
            addresses.append(address)
        return addresses, waiting

    yield run
    for client in clients:
        os.close(client)


def test_no_more_are_accepted_than_may_be_at_a_time(accept):
    listening = Listening("a", "b", "c", "d")
    assert accept(listening) == (["a", "b", "c"], QueueState.MAYBE_MORE)
    assert accept(listening) == (["d"], QueueState.EMPTY)


def test_an_error_of_one_client_is_passed_over(accept):
    assert accept(Listening(errno.ECONNABORTED, "a")) == (["a"], QueueState.EMPTY)


def test_what_this_machine_lacks_is_logged_once_and_once_more_when_it_is_over(accept, caplog, monkeypatch):
    now_s = [1000.0]
    monkeypatch.setattr("maesh_core.proxy.network.accepting.time.monotonic", lambda: now_s[0])
    listening = Listening(errno.EMFILE, errno.ENOMEM, "a", errno.EMFILE, "b", "c", errno.EMFILE)
    acceptor = Acceptor(cast("socket.socket", listening), 5000, print)
    for addresses in ([], [], ["a"]):
        assert accept(listening, acceptor) == (addresses, QueueState.OUT_OF_RESOURCES)
    assert caplog.messages == ["cannot accept connections on port 5000: it failed"]
    now_s[0] += STEADY_S
    assert accept(listening, acceptor) == (["b", "c"], QueueState.OUT_OF_RESOURCES)
    assert caplog.messages[1:] == [
        "connections on port 5000 can be accepted again",
        "cannot accept connections on port 5000: it failed",
    ]


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_an_accepted_client_does_not_block_and_inherits_its_options(family, host):
    taken = []
    with socket.create_server((host, 0), family=family) as listening, socket.socket(family) as client:
        listening.setblocking(False)
        acceptor = Acceptor(listening, 5000, lambda *each: taken.append(each))
        client.connect(listening.getsockname())
        assert acceptor.accept(3) is QueueState.EMPTY
        ((descriptor, address, entrypoint),) = taken
        sock = socket.socket(fileno=descriptor)
        assert (address, entrypoint) == (host, 5000)
        assert not os.get_blocking(sock.fileno())
        assert not os.get_inheritable(sock.fileno())
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        client.send(b"hello")
        assert sock.recv(5) == b"hello"
        sock.close()
