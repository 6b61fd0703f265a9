"""The queue before the thread that writes: bounded, counted, and emptied at the end."""

import logging
import threading

import pytest
from maesh_access_log.output import Output
from maesh_access_log.writer import BatchWriter


class Slow:
    """An output that waits before each write until it may go on."""

    name = "slow"

    def __init__(self):
        self.problem = ""
        self.may_write, self.is_writing = threading.Semaphore(0), threading.Semaphore(0)
        self.found, self.events = [], []

    def write(self, batch, lines):
        assert batch.count(b"\n") == lines
        self.is_writing.release()
        self.may_write.acquire()
        self.found.append(batch)
        return lines

    def reopen(self):
        self.found.append("reopened")

    def close(self):
        self.found.append("closed")


@pytest.fixture
def slow():
    output = Slow()
    yield output
    output.may_write.release(1000)


def test_batches_are_written_in_order(tmp_path):
    path = tmp_path / "log"
    writer = BatchWriter(Output(str(path)))
    for number in range(100):
        writer.put(b"%d\n" % number, 1)
    writer.close()
    assert path.read_bytes() == b"".join(b"%d\n" % number for number in range(100))
    assert (writer.written, writer.dropped, writer.waiting_bytes) == (100, 0, 0)


def test_nothing_waits_for_a_slow_output_and_what_does_not_fit_is_counted(slow, caplog):
    writer = BatchWriter(slow, limit_bytes=10)
    writer.put(b"aa\nbb\n", 2)
    slow.is_writing.acquire()
    writer.put(b"cc\n", 1)
    for _ in range(3):
        writer.put(b"dddddd\nd\n", 2)
    assert (writer.dropped, writer.waiting_bytes) == (6, 9)
    slow.may_write.release(2)
    slow.is_writing.acquire()
    while writer.waiting_bytes:
        pass
    writer.put(b"e\n", 1)
    slow.may_write.release()
    writer.close()
    assert slow.found == [b"aa\nbb\n", b"cc\n", b"e\n", "closed"]
    assert (writer.written, writer.dropped) == (4, 6)
    assert [record.getMessage() for record in caplog.records] == [
        "access log to slow: it is too slow; records are dropped",
        "access log to slow: it is fast enough again; 6 records were dropped",
    ]


def test_the_end_does_not_wait_for_an_output_that_is_stuck(slow, caplog):
    writer = BatchWriter(slow)
    writer.put(b"a\nb\n", 2)
    slow.is_writing.acquire()
    writer.put(b"c\n", 1)
    writer.close(limit_s=0.01)
    assert [record.getMessage() for record in caplog.records] == [
        "access log to slow: it is too slow; 3 records are lost"
    ]
    assert "closed" not in slow.found


def test_the_file_is_opened_again_after_earlier_batches(slow):
    writer = BatchWriter(slow)
    slow.may_write.release(10)
    writer.put(b"a\n", 1)
    writer.reopen()
    writer.put(b"b\n", 1)
    writer.close()
    assert slow.found == [b"a\n", "reopened", b"b\n", "closed"]


def test_a_failing_output_is_logged_when_it_fails_and_when_it_works_again(slow, caplog):
    caplog.set_level(logging.INFO)
    writer = BatchWriter(slow)
    results = [("full", 1), ("full", 0), ("", 2)]

    def write(batch, lines):
        slow.problem, written = results.pop(0)
        return written

    slow.write = write
    for _ in range(3):
        writer.put(b"a\nb\n", 2)
    writer.close()
    assert (writer.written, writer.dropped) == (3, 3)
    assert [record.getMessage() for record in caplog.records] == [
        "access log to slow: full",
        "access log to slow: it is written again; 3 records were dropped",
    ]


def test_without_records_there_is_no_thread(slow):
    before = threading.active_count()
    writer = BatchWriter(slow)
    assert threading.active_count() == before
    assert repr(writer).endswith("waiting=0 dropped=0>")
    writer.close()
    assert slow.found == ["closed"]
