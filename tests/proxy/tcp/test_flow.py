"""One direction of a connection, between real sockets: every byte, in order, whichever way it is carried."""

import errno
import os
import random
import socket

import pytest

from maesh_core.proxy.tcp import flow as flow_module
from maesh_core.proxy.tcp import pipes as pipes_module
from maesh_core.proxy.tcp.flow import BUFFER_BYTES, TURN_BYTES, Flow
from maesh_core.proxy.tcp.pipes import IDLE_LIMIT, PipePool


def connect():
    """Give two sockets that are connected over TCP; neither blocks."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    client.setblocking(False)
    server.setblocking(False)
    return client, server


class World:
    """A sender, a flow and a receiver."""

    def __init__(self):
        self.sender, source = connect()
        target, self.receiver = connect()
        self.pipes = PipePool()
        self.flow = Flow(source, target, memoryview(bytearray(BUFFER_BYTES)), self.pipes)
        self.received = bytearray()

    def send(self, data):
        """Send what goes; gives how much that was."""
        try:
            return self.sender.send(data)
        except BlockingIOError:
            return 0

    def receive(self, limit=1 << 20):
        """Receive what is there; True at the end of the stream."""
        try:
            data = self.receiver.recv(limit)
        except BlockingIOError:
            return False
        self.received += data
        return not data

    def close(self):
        self.flow.close()
        self.pipes.close()
        for sock in (self.sender, self.receiver, self.flow.source, self.flow.target):
            sock.close()


@pytest.fixture
def world():
    made = World()
    yield made
    made.close()


def carry(world, data, *, seed=0):
    """Carry data in pieces of any size, with pauses of either side, to the end of the stream."""
    chance = random.Random(seed)
    sent, is_over = 0, False
    while not is_over:
        if sent < len(data):
            sent += world.send(data[sent : sent + chance.choice([1, 100, 5000, 70_000, 3_000_000])])
            if sent == len(data):
                world.sender.shutdown(socket.SHUT_WR)
                world.flow.is_ending = True
        if chance.random() < 0.7:
            world.flow.pump()
        if chance.random() < 0.7:
            is_over = world.receive(chance.choice([1000, 100_000, 1 << 20]))


@pytest.mark.parametrize("way", ["spliced", "no pipes", "no splice"])
@pytest.mark.parametrize("seed", range(3))
def test_every_byte_arrives_in_order_whichever_way_it_is_carried(world, way, seed, monkeypatch):
    if way == "no pipes":
        monkeypatch.setattr(pipes_module, "PIPE_LIMIT", 0)
    if way == "no splice":

        def refuse(*_, **__):
            raise OSError(errno.EINVAL, "not these files")

        monkeypatch.setattr(os, "splice", refuse)
    data = random.Random(seed).randbytes(20_000_000)
    carry(world, data, seed=seed)
    assert bytes(world.received) == data
    assert world.flow.is_done
    assert world.flow.moved_bytes == len(data)


def test_a_short_message_takes_no_pipe(world):
    world.send(b"hello")
    assert world.flow.pump() is False
    world.receive()
    assert world.received == b"hello"
    assert repr(world.pipes) == "<PipePool 0 pipes, 0 idle>"


def test_a_pipe_is_borrowed_while_bytes_are_in_it_and_given_back(world):
    blob = bytes(40_000_000)
    sent = 0
    for _ in range(50):
        sent += world.send(blob)
        world.flow.pump()
    assert repr(world.pipes) == "<PipePool 1 pipes, 0 idle>"  # the receiver takes nothing
    while len(world.received) < sent:
        world.receive()
        world.flow.pump()
    assert repr(world.pipes) == "<PipePool 1 pipes, 1 idle>"


def test_a_pipe_that_has_bytes_in_it_is_never_lent_again(world):
    for _ in range(50):
        world.send(bytes(4_000_000))
        world.flow.pump()
    before = len(os.listdir("/proc/self/fd"))
    world.flow.close()
    assert repr(world.pipes) == "<PipePool 0 pipes, 0 idle>"
    assert len(os.listdir("/proc/self/fd")) == before - 2


def test_a_turn_ends_so_that_others_have_theirs(world, monkeypatch):
    monkeypatch.setattr(flow_module, "TURN_BYTES", 100_000)
    while world.send(bytes(1 << 20)):
        pass
    assert TURN_BYTES > 100_000
    assert world.flow.pump() is True
    assert 100_000 <= world.flow.moved_bytes < 3_000_000


def test_the_end_comes_behind_every_byte_and_once(world):
    world.send(b"last words")
    world.sender.shutdown(socket.SHUT_WR)
    world.flow.is_ending = True
    world.flow.pump()
    assert world.flow.is_done
    assert not world.receive()
    assert world.receive()
    assert world.received == b"last words"
    assert world.flow.pump() is False


def test_the_last_flow_of_a_connection_leaves_its_end_to_whoever_closes_the_target(world):
    world.send(b"last words")
    world.sender.shutdown(socket.SHUT_WR)
    world.flow.is_ending = True
    world.flow.pump(is_last=True)
    assert world.flow.is_done
    assert not world.receive()
    assert not world.receive()
    world.flow.target.close()
    assert world.receive()
    assert world.received == b"last words"


def test_a_flow_is_blocked_while_its_target_takes_no_more(world):
    assert not world.flow.is_blocked
    blob = bytes(1 << 20)
    sent = 0
    while not world.flow.is_blocked:
        sent += world.send(blob)
        world.flow.pump()
    while world.flow.is_blocked:
        world.receive()
        world.flow.pump()
    while len(world.received) < sent:
        world.receive()
        world.flow.pump()
    assert not world.flow.is_blocked


def test_a_reset_of_the_source_is_an_error(world):
    world.send(b"x")
    world.sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    world.sender.close()
    world.flow.is_ending = True
    with pytest.raises(ConnectionResetError):
        world.flow.pump()


def test_pipes_are_kept_up_to_a_number():
    pool = PipePool()
    pipes = [pool.acquire() for _ in range(IDLE_LIMIT + 3)]
    for pipe in pipes:
        pool.release(pipe)
    assert repr(pool) == f"<PipePool {IDLE_LIMIT} pipes, {IDLE_LIMIT} idle>"
    pool.close()
    assert repr(pool) == "<PipePool 0 pipes, 0 idle>"


def test_large_pipes_that_go_are_made_again(monkeypatch):
    monkeypatch.setattr(pipes_module, "LARGE_LIMIT", 1)
    pool = PipePool()
    large, small = pool.acquire(), pool.acquire()
    assert (large.is_large, small.is_large) == (True, False)
    pool.release(large, is_empty=False)
    again = pool.acquire()
    assert again.is_large
    for pipe in (small, again):
        pool.release(pipe)
    pool.close()
