"""Answers received and sent in batches, between real sockets: each with its client's mark, none lost, none twice."""

import ctypes
import mmap
import socket
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from maesh_udp.batches import BATCH, DATAGRAM_BYTES, Inbox, Layout, Outbox

LARGEST = 65_507
"""The most bytes of a datagram over IPv4 (RFC 768 and RFC 791: 65,535 less two headers)."""


def open_socket():
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.setblocking(False)
    return sock


def build_mark(sock):
    host, port = sock.getsockname()
    return int(socket.AF_INET).to_bytes(2, "little") + port.to_bytes(2, "big") + socket.inet_aton(host) + bytes(8)


class Bench:
    """A session's socket with its server, an entrypoint's socket, and two clients."""

    def __init__(self):
        self.server, self.session, self.entrypoint = open_socket(), open_socket(), open_socket()
        self.session.connect(self.server.getsockname())
        self.clients = [open_socket(), open_socket()]
        self.outbox = Outbox()
        self.outbox.set_layout(Layout(self.entrypoint))

    def answer(self, data):
        self.server.sendto(data, self.session.getsockname())

    def receive(self, client=0, *, limit=BATCH):
        return self.outbox.receive(self.session.fileno(), build_mark(self.clients[client]), limit=limit)

    def send(self):
        return self.outbox.send(self.entrypoint.fileno())

    def read(self, client=0):
        """Read what a client has been sent."""
        found = []
        while True:
            try:
                found.append(self.clients[client].recv(DATAGRAM_BYTES))
            except BlockingIOError:
                return found

    def close(self):
        for sock in (self.server, self.session, self.entrypoint, *self.clients):
            sock.close()


@pytest.fixture
def bench():
    made = Bench()
    yield made
    made.close()


def test_answers_of_any_size_leave_whole_and_in_order(bench):
    sent = [b"first", b"", b"x" * LARGEST, b"last"]
    for data in sent:
        bench.answer(data)
    assert bench.receive() == 4
    assert bench.send() == (4, sum(map(len, sent)))
    assert bench.read() == sent


def test_one_call_takes_no_more_than_its_limit_and_no_more_than_there_is_room_for(bench):
    for number in range(BATCH + 5):
        bench.answer(b"%d" % number)
    assert bench.receive(limit=16) == 16
    assert bench.receive() == BATCH - 16
    assert bench.send()[0] == BATCH
    assert bench.receive() == 5
    assert bench.receive() == 0
    bench.send()
    assert bench.read() == [b"%d" % number for number in range(BATCH + 5)]


def test_answers_to_several_clients_leave_together_each_to_its_own(bench):
    bench.answer(b"one")
    bench.receive(0)
    bench.answer(b"other")
    bench.receive(1)
    assert bench.send() == (2, 8)
    assert (bench.read(0), bench.read(1)) == ([b"one"], [b"other"])


def test_an_error_of_the_kernel_is_raised_once_and_costs_no_answer_that_waits(bench):
    bench.answer(b"answer")
    assert bench.receive() == 1
    bench.server.close()
    bench.session.send(b"is anybody there?")
    with pytest.raises(ConnectionRefusedError):
        bench.receive()
    assert bench.receive() == 0
    assert bench.send() == (1, 6)
    assert bench.read() == [b"answer"]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=40), st.integers(1, BATCH), st.just("send")), max_size=60))
def test_nothing_is_lost_or_sent_twice_however_answers_come_and_are_taken(steps):
    bench = Bench()
    answered = []
    for step in steps:
        if isinstance(step, bytes):
            bench.answer(step)
            answered.append(step)
        elif step == "send" or bench.outbox.count == BATCH:
            bench.send()
        else:
            bench.receive(limit=step)
    bench.send()
    while bench.receive():
        bench.send()
    assert bench.read() == answered
    bench.close()


def test_one_answer_is_received_like_many(bench):
    assert bench.outbox.receive_one(bench.session.recv_into, build_mark(bench.clients[0])) == 0
    for data in (b"", b"x" * LARGEST):
        bench.answer(data)
        assert bench.outbox.receive_one(bench.session.recv_into, build_mark(bench.clients[0])) == 1
    assert bench.send() == (2, LARGEST)
    assert bench.read() == [b"", b"x" * LARGEST]


PAGE_IS_PRESENT = 1 << 63
"""Of an entry of /proc/PID/pagemap (kernel documentation, admin-guide/mm/pagemap)."""
PAGES = BATCH * DATAGRAM_BYTES // mmap.PAGESIZE


def count_resident_pages(batch):
    start = ctypes.addressof(ctypes.c_char.from_buffer(batch.slots[0]))
    with Path("/proc/self/pagemap").open("rb") as table:
        table.seek(start // mmap.PAGESIZE * 8)
        entries = memoryview(table.read(PAGES * 8)).cast("Q")
    assert len(entries) == PAGES
    return sum(bool(entry & PAGE_IS_PRESENT) for entry in entries)


def test_batches_that_no_datagram_has_used_have_no_resident_pages():
    assert [count_resident_pages(batch) for batch in (Inbox(), Outbox())] == [0, 0]


def test_a_batch_has_the_pages_resident_that_its_datagrams_need():
    inbox = Inbox()
    with open_socket() as receiver, open_socket() as sender:
        for size in (1, 3 * mmap.PAGESIZE):
            sender.sendto(b"x" * size, receiver.getsockname())
        assert inbox.receive(receiver.fileno(), Layout(receiver)) == 2
    assert [bytes(inbox.slots[index][: inbox.sizes[index]]) for index in (0, 1)] == [b"x", b"x" * 3 * mmap.PAGESIZE]
    assert 4 <= count_resident_pages(inbox) < PAGES  # more than 4 where the kernel gives huge pages
