import ctypes
import mmap
import socket
from pathlib import Path

from maesh_udp.batches import BATCH, DATAGRAM_BYTES, Inbox, Layout, Outbox

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
    with socket.socket(type=socket.SOCK_DGRAM) as receiver, socket.socket(type=socket.SOCK_DGRAM) as sender:
        receiver.bind(("127.0.0.1", 0))
        for size in (1, 3 * mmap.PAGESIZE):
            sender.sendto(b"x" * size, receiver.getsockname())
        assert inbox.receive(receiver.fileno(), Layout(receiver)) == 2
    assert [bytes(inbox.slots[index][: inbox.sizes[index]]) for index in (0, 1)] == [b"x", b"x" * 3 * mmap.PAGESIZE]
    assert 4 <= count_resident_pages(inbox) < PAGES  # more than 4 where the kernel gives huge pages
