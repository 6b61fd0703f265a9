"""TLS on a pair of sockets: encrypted bytes in pieces of any size in, the plain bytes out; and when reads are large."""

import asyncio
import socket
import ssl

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maesh_core.proxy.tunnel.connection import COPIED_READ_BYTES
from maesh_core.proxy.tunnel.environment import RECORD_BYTES, TunnelEnvironment
from maesh_core.proxy.tunnel.limits import LARGE_READS, SMALL_READ_BYTES
from maesh_core.proxy.tunnel.tls_socket import WOULD_BLOCK, TlsSocket
from maesh_testing import FakeNode


class Peer:
    """A client of a TlsSocket that has finished its handshake; `seal` encrypts, `sock` sends."""

    def __init__(self, environment, authority):
        self.sock, own = socket.socketpair()
        self.sock.setblocking(False)
        own.setblocking(False)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = authority.build_context("a", is_server=False)
        self._tls = client.wrap_bio(self._incoming, self._outgoing)
        server = authority.build_context("b", is_server=True)
        self.other = TlsSocket(environment, own, server, is_server=True)
        while not self._shake():
            self.sock.sendall(self._outgoing.read())
            self.other.feed()
            is_done = self.other.shake()
            self._incoming.write(self.sock.recv(65536))
        self.sock.sendall(self._outgoing.read())
        while not is_done:
            self.other.feed()
            is_done = self.other.shake()

    def _shake(self):
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def seal(self, data):
        self._tls.write(data)
        return self._outgoing.read()

    def seal_end(self):
        with pytest.raises(ssl.SSLWantReadError):
            self._tls.unwrap()
        return self._outgoing.read()

    def close(self):
        self.sock.close()
        self.other.sock.close()


@pytest.fixture
async def environment():
    node = FakeNode()
    yield TunnelEnvironment(node, asyncio.get_running_loop())
    node.close()


@pytest.fixture
def peer(environment, authority):
    peer = Peer(environment, authority)
    yield peer
    peer.close()


def read_plain(tls, environment):
    """Read once, as a link does; return the plain bytes."""
    count = tls.feed()
    if 0 < count <= COPIED_READ_BYTES and not tls.has_more:
        return tls.decrypt_small()
    plain = b""
    while True:
        plain += bytes(environment.plain_view[: tls.decrypt(0)])
        if not tls.has_more:
            return plain


@pytest.fixture
def check_pieces(environment, authority):
    """Check that messages arrive as they were sent, if their records arrive in pieces of these sizes."""

    def check(messages, sizes):
        peer = Peer(environment, authority)
        sealed = b"".join(map(peer.seal, messages)) + peer.seal_end()
        plain, at = b"", 0
        for size in (*sizes, len(sealed)):
            peer.sock.sendall(sealed[at : at + size])
            at += size
            plain += read_plain(peer.other, environment)
            while peer.other.was_full:
                plain += read_plain(peer.other, environment)
        has_ended = peer.other.has_ended
        peer.close()
        assert plain == b"".join(messages)
        assert has_ended

    return check


def test_records_in_pieces_of_any_size_are_the_same_bytes(check_pieces):
    messages = st.lists(st.binary(min_size=1, max_size=100) | st.integers(1, 50_000).map(bytes), max_size=4)

    @settings(max_examples=30)  # each has a handshake
    @given(messages=messages, sizes=st.lists(st.sampled_from((1, 5, 100, 4096, 4097, 16384, 16385)), max_size=8))
    def check(messages, sizes):
        check_pieces(messages, sizes)

    check()


def test_a_large_record_that_a_small_piece_completes_is_read_whole(check_pieces):
    check_pieces([bytes(RECORD_BYTES), b"more"], [RECORD_BYTES - 10])


def test_bytes_before_a_changed_record_can_be_read(peer):
    sealed = bytearray(peer.seal(b"first") + peer.seal(b"second"))
    sealed[-1] ^= 1
    peer.sock.sendall(sealed)
    assert peer.other.feed() == len(sealed)
    with pytest.raises(ssl.SSLError):
        peer.other.decrypt_small()
    assert peer.other.decrypted == b"first"


def test_after_a_large_read_so_many_reads_use_the_large_buffer(peer):
    def send(size):
        peer.sock.sendall(bytes(size))
        return peer.other.feed(), peer.other.was_full

    assert send(SMALL_READ_BYTES - 1) == (SMALL_READ_BYTES - 1, False)
    assert send(SMALL_READ_BYTES + 1) == (SMALL_READ_BYTES, True)
    assert peer.other.feed() == 1
    assert send(SMALL_READ_BYTES + 1) == (SMALL_READ_BYTES + 1, False)
    for _ in range(LARGE_READS):
        assert send(1) == (1, False)
    assert send(SMALL_READ_BYTES + 1) == (SMALL_READ_BYTES, True)


def test_a_read_without_bytes_blocks_or_is_the_end(peer):
    assert peer.other.feed() == WOULD_BLOCK
    peer.sock.shutdown(socket.SHUT_WR)
    assert peer.other.feed() == 0


def test_what_the_socket_does_not_accept_waits_until_it_does(peer):
    tls, size = peer.other, 4_000_000
    assert tls.unsent_bytes == 0
    tls.write(bytes(size))
    tls.flush()
    assert tls.is_blocked
    assert tls.unsent_bytes > 0
    received = 0
    while received < size:  # TLS adds some bytes to each record
        received += len(peer.sock.recv(1 << 20))
        tls.flush()
    assert not tls.is_blocked
    assert tls.unsent_bytes == 0
