"""What a capture puts together of the frames that it has read."""

import socket
import struct

import pytest

from maesh_testing.capture import Capture, Flow

FLOW = Flow("10.99.0.1", 40000, "10.99.0.2", 80)


def build_frame(sequence, payload, flow=FLOW, *, protocol=6):
    tcp = struct.pack("!HHIIBBHHH", flow.source_port, flow.target_port, sequence, 0, 5 << 4, 0, 0, 0, 0)
    addresses = socket.inet_aton(flow.source) + socket.inet_aton(flow.target)
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 40 + len(payload), 0, 0, 64, protocol, 0) + addresses
    return b"\0" * 12 + b"\x08\x00" + ip + tcp + payload


class Reader:
    """A capture of frames that a test writes to a socket of its own."""

    def __init__(self):
        ours, self.sock = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.capture = Capture(WithoutLoss(ours))

    def read(self, *frames):
        for frame in frames:
            self.sock.send(frame)
        self.sock.close()
        self.capture.close()
        return self.capture


class WithoutLoss(socket.socket):
    """A socket of a test in place of one for packets; unless a test says otherwise, nothing was lost."""

    def __init__(self, sock, statistics=(0, 0)):
        super().__init__(sock.family, sock.type, sock.proto, sock.detach())
        self._statistics = statistics

    def getsockopt(self, *_):
        return struct.pack("II", *self._statistics)

    def recvfrom_into(self, *arguments):
        return self.recv_into(*arguments), ("eth0", 8, socket.PACKET_OTHERHOST, 1, b"")


def test_a_text_that_is_split_over_packets_is_found_whatever_their_order():
    capture = Reader().read(build_frame(7, b"marker"), build_frame(1, b"uni"), build_frame(4, b"que"))
    assert capture.find(b"uniquemarker") == [FLOW]
    assert capture.find(b"markerunique") == []


def test_what_is_sent_again_is_in_the_result_once():
    capture = Reader().read(*[build_frame(1, b"ab"), build_frame(1, b"abcd"), build_frame(3, b"cd")] * 2)
    assert dict(capture.read_flows()) == {FLOW: b"abcd"}


def test_data_that_is_sent_again_is_counted():
    frames = [
        build_frame(1, b"a"),
        build_frame(1, b""),
        build_frame(1, b"a"),
        build_frame(2, b"b"),
        build_frame(1, b""),
    ]
    assert Reader().read(*frames).count_repeated() == 1


def test_sequence_numbers_wrap():
    capture = Reader().read(build_frame(2**32 - 2, b"ab"), build_frame(0, b"cd"))
    assert dict(capture.read_flows()) == {FLOW: b"abcd"}


def test_directions_and_connections_are_kept_apart():
    back = Flow(FLOW.target, FLOW.target_port, FLOW.source, FLOW.source_port)
    capture = Reader().read(build_frame(1, b"there"), build_frame(1, b"back", back))
    assert dict(capture.read_flows()) == {FLOW: b"there", back: b"back"}


def test_frames_of_other_protocols_are_searched_too():
    capture = Reader().read(build_frame(1, b"a datagram", protocol=17))
    assert capture.find(b"a datagram") == [Flow("", 0, "", 0)]
    assert not capture.read_flows()


def test_lost_frames_are_an_error():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    capture = Capture(WithoutLoss(ours, (10, 1)))
    theirs.close()
    with pytest.raises(AssertionError, match="the capture has lost 1 of 10 frames"):
        capture.close()
