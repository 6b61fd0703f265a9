"""Frames over real socket pairs: whole, split anywhere, with descriptors, and hostile."""

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.proxy.workers.channel import (
    DESCRIPTORS_LIMIT,
    MESSAGE_LIMIT_BYTES,
    PAYLOAD_LIMIT_BYTES,
    Channel,
    ChannelError,
    Frames,
)


class Note(msgspec.Struct, frozen=True):
    """A message."""

    text: str


def build_frame(text: str, payload: bytes = b"", descriptors: int = 0) -> bytes:
    message = msgspec.msgpack.encode(Note(text))
    return struct.pack("!IIB", len(message), len(payload), descriptors) + message + payload


class End:
    """One end of a channel, which keeps what comes."""

    def __init__(self, sock: socket.socket) -> None:
        self.received: list[tuple[Note, bytes]] = []
        self.descriptors: list[int] = []
        self.reasons: list[str] = []
        self.changed = asyncio.Event()
        self.channel: Channel[Note] = Channel(sock, Note, on_message=self.on_message, on_closed=self.on_closed)

    def on_message(self, note: Note, payload: bytes, descriptors: Sequence[int]) -> None:
        self.received.append((note, payload))
        self.descriptors += descriptors
        self.changed.set()

    def on_closed(self, reason: str) -> None:
        self.reasons.append(reason)
        self.changed.set()

    async def wait_for(self, count: int) -> None:
        while len(self.received) < count:
            self.changed.clear()
            await self.changed.wait()

    async def wait_closed(self) -> str:
        while not self.reasons:
            self.changed.clear()
            await self.changed.wait()
        return self.reasons[0]


@pytest.fixture
async def ends() -> Any:
    one, two = map(End, socket.socketpair())
    yield one, two
    for end in (one, two):
        end.channel.close()
        for descriptor in end.descriptors:
            os.close(descriptor)


@pytest.fixture
def raw() -> Iterator[Any]:
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()


@given(
    st.lists(st.tuples(st.text(max_size=20), st.binary(max_size=50)), max_size=5),
    st.lists(st.integers(1, 40), min_size=1),
)
def test_frames_come_out_as_they_went_in_however_they_are_split(
    notes: list[tuple[str, bytes]], sizes: list[int]
) -> None:
    stream = b"".join(build_frame(text, payload) for text, payload in notes)
    frames: Frames[Note] = Frames(Note)
    found = []
    step = 0
    while stream:
        size = sizes[step % len(sizes)]
        frames.receive(stream[:size])
        stream = stream[size:]
        step += 1
        while (frame := frames.pop()) is not None:
            found.append((frame[0].text, frame[1]))
    assert found == notes


@given(st.binary(max_size=60))
def test_bytes_that_make_no_sense_raise_one_error_and_no_other(data: bytes) -> None:
    frames: Frames[Note] = Frames(Note)
    frames.receive(data)
    try:
        while frames.pop() is not None:
            pass
    except ChannelError:
        pass


@pytest.mark.parametrize(
    "head",
    [
        (MESSAGE_LIMIT_BYTES + 1, 0, 0),
        (0, PAYLOAD_LIMIT_BYTES + 1, 0),
        (1, 0, DESCRIPTORS_LIMIT + 1),
        (2**32 - 1, 2**32 - 1, 255),
    ],
)
def test_a_head_that_announces_too_much_is_refused_before_anything_is_kept(head: tuple[int, int, int]) -> None:
    frames: Frames[Note] = Frames(Note)
    frames.receive(struct.pack("!IIB", *head))
    with pytest.raises(ChannelError, match="too large"):
        frames.pop()


def test_descriptors_that_are_announced_must_have_come() -> None:
    frames: Frames[Note] = Frames(Note)
    frames.receive(build_frame("x", descriptors=1))
    with pytest.raises(ChannelError, match="without its descriptors"):
        frames.pop()


async def test_messages_pass_both_ways_with_payloads_larger_than_any_buffer(ends: tuple[End, End]) -> None:
    one, two = ends
    large = os.urandom(5_000_000)
    one.channel.send(Note("a"), payload=large)
    one.channel.send(Note("b"))
    two.channel.send(Note("c"))
    await two.wait_for(2)
    await one.wait_for(1)
    assert two.received == [(Note("a"), large), (Note("b"), b"")]
    assert one.received == [(Note("c"), b"")]


async def test_descriptors_arrive_in_order_with_their_message_though_the_sender_has_closed_his(
    ends: tuple[End, End],
) -> None:
    one, two = ends
    pipes = [socket.socketpair() for _ in range(4)]
    one.channel.send(Note("slow"), payload=bytes(3_000_000))  # there is no room for what follows
    for number, (_, theirs) in enumerate(pipes):
        one.channel.send(Note(str(number)), sockets=[theirs])
        theirs.close()
    await two.wait_for(5)
    for number, descriptor in enumerate(two.descriptors):
        os.write(descriptor, str(number).encode())
        assert pipes[number][0].recv(9) == str(number).encode()
        assert not os.get_inheritable(descriptor)
        pipes[number][0].close()


async def test_the_last_words_of_an_end_that_is_gone_are_heard(ends: tuple[End, End]) -> None:
    one, two = ends
    one.channel.send(Note("last"), payload=bytes(100_000))
    one.channel.close()
    two.channel.close_after_rest()
    assert two.received == [(Note("last"), bytes(100_000))]
    assert two.reasons == ["the other end has closed the channel"]


async def test_the_end_of_one_side_closes_the_other_once(ends: tuple[End, End]) -> None:
    one, two = ends
    one.channel.close()
    assert await two.wait_closed() == "the other end has closed the channel"
    two.channel.close()
    two.channel.send(Note("lost"))
    assert len(two.reasons) == 1


@pytest.mark.parametrize("stream", [build_frame("abc")[:-1], b"\xff" * 9, struct.pack("!IIB", 2, 0, 0) + b"\xc1\xc1"])
async def test_a_stream_that_is_cut_or_garbage_closes_the_channel(raw: Any, stream: bytes) -> None:
    ours, theirs = raw
    end = End(theirs)
    ours.sendall(stream)
    ours.shutdown(socket.SHUT_WR)
    assert await end.wait_closed()
    assert end.received == []


async def test_unexpected_descriptors_are_closed_with_the_channel(raw: Any) -> None:
    ours, theirs = raw
    end = End(theirs)
    mine, sent = socket.socketpair()
    socket.send_fds(ours, [b"\0"], [sent.fileno()])
    sent.close()
    ours.close()
    await end.wait_closed()
    assert mine.recv(1) == b""
    mine.close()


async def test_flushing_waits_until_the_other_end_has_taken_all(ends: tuple[End, End]) -> None:
    one, two = ends
    one.channel.send(Note("a"), payload=bytes(2_000_000))
    await one.channel.flush()
    one.channel.close()
    await two.wait_for(1)
    assert len(two.received[0][1]) == 2_000_000


async def test_a_channel_says_whether_the_other_end_has_taken_everything() -> None:
    ours, theirs = socket.socketpair()
    channel: Channel[Note] = Channel(ours, Note, on_message=lambda *_: None, on_closed=lambda reason: None)

    def has_unsent() -> bool:
        return channel.has_unsent

    try:
        channel.send(Note("a"))
        assert not has_unsent()
        channel.send(Note("b"), payload=bytes(16 * 2**20))
        assert has_unsent()
        theirs.setblocking(False)
        while has_unsent():
            with contextlib.suppress(BlockingIOError):
                theirs.recv(2**20)
            await asyncio.sleep(0)
    finally:
        channel.close()
        theirs.close()
