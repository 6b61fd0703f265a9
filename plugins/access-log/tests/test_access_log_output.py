"""Writing lines to a file that may be rotated, and to a pipe that others share."""

import contextlib
import errno
import fcntl
import os
import stat
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from maesh_access_log import output as module
from maesh_access_log.output import PIECE_BYTES, Output, split_lines
from maesh_access_log.texts import LINE_LIMIT_BYTES


@pytest.fixture
def path(tmp_path):
    return tmp_path / "access.log"


@pytest.fixture
def open_output():
    with contextlib.ExitStack() as stack:

        def build(path):
            output = Output(str(path))
            stack.callback(output.close)
            return output

        yield build


def test_lines_are_appended_to_a_file_that_others_cannot_read(path, open_output):
    path.write_bytes(b"old\n")
    path.chmod(0o600)
    output = open_output(path)
    assert output.write(b"a\nb\n", 2) == 2
    assert path.read_bytes() == b"old\na\nb\n"
    path.unlink()
    assert output.write(b"c\n", 1) == 1
    assert path.read_bytes() == b"c\n"
    assert stat.S_IMODE(path.stat().st_mode) & 0o007 == 0


def test_a_file_that_was_moved_is_opened_again(path, open_output):
    output = open_output(path)
    output.write(b"first\n", 1)
    path.rename(path.with_suffix(".1"))
    output.write(b"second\n", 1)
    assert path.with_suffix(".1").read_bytes() == b"first\n"
    assert path.read_bytes() == b"second\n"


def test_a_file_that_was_truncated_is_written_from_its_start(path, open_output):
    output = open_output(path)
    output.write(b"first\n", 1)
    os.truncate(path, 0)
    output.write(b"second\n", 1)
    assert path.read_bytes() == b"second\n"


def test_where_the_path_cannot_be_opened_again_the_moved_file_is_used(tmp_path, open_output):
    folder = tmp_path / "logs"
    folder.mkdir()
    output = open_output(folder / "access.log")
    output.write(b"first\n", 1)
    moved = tmp_path / "moved"
    folder.rename(moved)
    assert output.write(b"a\n", 1) == 1
    assert "cannot open it again: No such file or directory" in output.problem
    assert (moved / "access.log").read_bytes() == b"first\na\n"
    folder.mkdir()
    assert output.write(b"b\n", 1) == 1
    assert output.problem == ""
    assert (folder / "access.log").read_bytes() == b"b\n"


def test_a_path_that_cannot_be_opened_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        Output(str(tmp_path / "nothing" / "access.log"))
    with pytest.raises(IsADirectoryError):
        Output(str(tmp_path))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="No such device or address"):
        Output(str(tmp_path / "pipe"))


def test_a_file_is_created_by_its_first_line(path, open_output):
    output = open_output(path)
    assert not path.exists()
    output.write(b"a\n", 1)
    assert path.read_bytes() == b"a\n"


def test_a_file_that_can_no_longer_be_created_drops_records_until_it_can(tmp_path, open_output):
    folder = tmp_path / "logs"
    folder.mkdir()
    output = open_output(folder / "access.log")
    folder.rmdir()
    assert output.write(b"a\n", 1) == 0
    assert output.problem == "cannot open it: No such file or directory; records are dropped"
    folder.mkdir()
    assert output.write(b"b\n", 1) == 1
    assert (folder / "access.log").read_bytes() == b"b\n"


def test_a_folder_that_cannot_be_written_is_an_error(path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)  # tests may run as root
    with pytest.raises(PermissionError):
        Output(str(path))


def test_standard_output_is_the_default(monkeypatch, path):
    with path.open("wb") as file:
        monkeypatch.setattr(module, "STANDARD_OUTPUT", file.fileno())
        output = Output("")
        output.reopen()
        assert output.write(b"a\n", 1) == 1
        output.close()
        assert not file.closed
        os.fstat(file.fileno())
    assert path.read_bytes() == b"a\n"
    assert repr(output) == "<Output standard output ''>"


def test_after_a_cut_write_the_next_line_begins_on_its_own(path, open_output, monkeypatch):
    output, write, sizes = open_output(path), os.write, [3, None]

    def write_little(descriptor, data):
        size = sizes.pop(0) if sizes else len(data)
        if size is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data[:size])

    monkeypatch.setattr(os, "write", write_little)
    assert output.write(b"a\nbb\nc\n", 3) == 1
    assert output.problem == "cannot write: No space left on device; records are dropped"
    assert output.write(b"d\n", 1) == 1
    assert output.problem == ""
    assert path.read_bytes() == b"a\nb\nd\n"


def test_a_line_that_another_worker_left_unfinished_is_ended(path, open_output):
    output = open_output(path)
    output.write(b"a\n", 1)
    with path.open("ab") as killed:
        killed.write(b"half")
    assert output.write(b"b\n", 1) == 1
    assert output.write(b"c\n", 1) == 1
    assert path.read_bytes() == b"a\nhalf\nb\nc\n"


def test_a_write_waits_for_that_of_another_worker(path, open_output):
    output = open_output(path)
    output.write(b"a\n", 1)
    with path.open("ab", buffering=0) as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        other.write(b"b")
        writing = threading.Thread(target=output.write, args=(b"c\n", 1))
        writing.start()
        writing.join(0.05)
        assert writing.is_alive()
        other.write(b"b\n")
        fcntl.flock(other, fcntl.LOCK_UN)
        writing.join()
    assert path.read_bytes() == b"a\nbb\nc\n"


def test_a_full_disk_is_a_problem(open_output):
    output = open_output("/dev/full")
    assert output.write(b"a\n", 1) == 0
    assert "No space left" in output.problem


@given(st.lists(st.binary(max_size=99).map(lambda line: line.replace(b"\n", b".") + b"\n"), max_size=40))
def test_pieces_are_whole_lines_of_bounded_size(lines):
    batch = b"".join(lines)
    pieces = split_lines(batch, limit=100)
    assert b"".join(pieces) == batch
    assert all(len(piece) <= 100 and piece.endswith(b"\n") for piece in pieces)


def test_a_line_always_fits_into_a_piece():
    assert LINE_LIMIT_BYTES <= PIECE_BYTES


def read_all(descriptor, found):
    while data := os.read(descriptor, 65536):
        found.append(data)
    os.close(descriptor)


@pytest.mark.parametrize("is_blocking", [True, False])
def test_writers_of_one_pipe_never_mix_their_lines(tmp_path, is_blocking):
    os.mkfifo(tmp_path / "pipe")
    reader, found = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK), []
    os.set_blocking(reader, True)
    outputs = [Output(str(tmp_path / "pipe")) for _ in range(3)]
    for output in outputs:
        os.set_blocking(output._descriptor, is_blocking)
    reading = threading.Thread(target=read_all, args=(reader, found))
    reading.start()
    lines = {name: [name * size + b"\n" for size in range(1, 900, 7)] for name in (b"a", b"b", b"c")}
    writing = [
        threading.Thread(target=output.write, args=(b"".join(own), len(own)))
        for output, own in zip(outputs, lines.values(), strict=True)
    ]
    for thread in writing:
        thread.start()
    for thread in writing:
        thread.join()
    for output in outputs:
        output.close()
    reading.join()
    assert sorted(b"".join(found).splitlines(keepends=True)) == sorted(line for own in lines.values() for line in own)


def test_workers_append_whole_batches_to_one_file(path, open_output):
    outputs = [open_output(path) for _ in range(3)]
    batches = [b"".join(b"%d" % number * size + b"\n" for size in range(1, 400)) for number in range(3)]
    threads = [
        threading.Thread(target=lambda output=output, batch=batch: [output.write(batch, 399) for _ in range(20)])
        for output, batch in zip(outputs, batches, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = path.read_bytes()
    assert len(found) == 20 * sum(map(len, batches))
    assert all(len(set(line)) == 1 for line in found.splitlines())
