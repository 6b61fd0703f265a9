"""Records the packets of a network namespace, and puts the bytes of its TCP connections together again.

A frame that the kernel could not keep makes `close` raise: a capture that says that something did not pass has seen
everything that passed.
"""

import contextlib
import select
import socket
import struct
import threading
from collections.abc import Mapping
from typing import NamedTuple

_ALL_PROTOCOLS = 3  # ETH_P_ALL
_SOL_PACKET, _PACKET_STATISTICS = 263, 6
_SO_RCVBUFFORCE = 33
_BUFFER_BYTES = 64 * 1024 * 1024
_FRAME_BYTES = 128 * 1024
"""More than the largest frame: cables between namespaces pass segments of 64 KiB as one."""
_IPV4, _TCP = b"\x08\x00", 6


class Flow(NamedTuple):
    """One direction of a TCP connection."""

    source: str
    source_port: int
    target: str
    target_port: int


class Capture:
    """Records every frame that comes in at an interface of a namespace; `frames` are those so far."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._stop, self._stopped = socket.socketpair()
        self.frames: list[bytes] = []
        self._thread = threading.Thread(target=self._record, daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"<Capture {len(self.frames)} frames>"

    def __enter__(self) -> "Capture":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @staticmethod
    def open_socket() -> socket.socket:
        """Open the socket that `Capture` reads, for all interfaces of the thread's network namespace."""
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL_PROTOCOLS))
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        return sock

    def close(self) -> None:
        """Read what is waiting, and stop. Raises AssertionError if frames were lost."""
        if self._socket.fileno() < 0:
            return
        self._stop.close()
        self._thread.join()
        statistics = self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
        self._socket.close()
        self._stopped.close()
        seen, lost = struct.unpack("II", statistics)
        assert not lost, f"the capture has lost {lost} of {seen} frames"

    def find(self, text: bytes) -> list[Flow]:
        """Find the TCP connections in which the text passed, also in more than one packet.

        Frames of other protocols are searched, too; for them a flow with empty addresses is in the result.
        """
        found = [flow for flow, content in self.read_flows().items() if text in content]
        if any(text in frame for frame in self.frames) and not found:
            found.append(Flow("", 0, "", 0))
        return found

    def read_flows(self) -> Mapping[Flow, bytes]:
        """Put the bytes of each direction of each TCP connection together."""
        segments: dict[Flow, dict[int, bytes]] = {}
        for frame in self.frames:
            if (parsed := _parse(frame)) is not None:
                flow, sequence, payload = parsed
                kept = segments.setdefault(flow, {})
                if len(payload) > len(kept.get(sequence, b"")):
                    kept[sequence] = payload
        return {flow: _join(kept) for flow, kept in segments.items()}

    def count_repeated(self) -> int:
        """Count the segments with data that a sender has sent again."""
        sent = [parsed[:2] for frame in self.frames if (parsed := _parse(frame)) is not None and parsed[2]]
        return len(sent) - len(set(sent))

    def _record(self) -> None:
        buffer = bytearray(_FRAME_BYTES)
        while True:
            readable, _, _ = select.select([self._socket, self._stopped], (), ())
            if self._socket in readable:
                with contextlib.suppress(BlockingIOError):
                    while True:
                        count, address = self._socket.recvfrom_into(buffer, 0, socket.MSG_DONTWAIT)
                        if address[2] != socket.PACKET_OUTGOING:  # it was seen when it came in
                            self.frames.append(bytes(buffer[:count]))
            elif readable:
                return


def _parse(frame: bytes) -> tuple[Flow, int, bytes] | None:
    """Parse a frame; None if it has no TCP over IPv4. Every end of a connection counts as a segment."""
    if frame[12:14] != _IPV4 or len(frame) < 54 or frame[23] != _TCP:
        return None
    packet = frame[14 : 14 + int.from_bytes(frame[16:18], "big")]
    segment = packet[(packet[0] & 15) * 4 :]
    source, target = (socket.inet_ntoa(packet[start : start + 4]) for start in (12, 16))
    source_port, target_port, sequence = struct.unpack_from("!HHI", segment)
    return Flow(source, source_port, target, target_port), sequence, segment[(segment[12] >> 4) * 4 :]


def _join(segments: Mapping[int, bytes]) -> bytes:
    """Join segments in the order of their sequence numbers; what was sent twice is in the result once."""
    if not segments:
        return b""
    first = next(iter(segments))
    ordered = sorted((_subtract(sequence, first), payload) for sequence, payload in segments.items())
    end, joined = ordered[0][0], bytearray()
    for start, payload in ordered:
        fresh = payload[max(0, end - start) :]
        joined += fresh
        end = max(end, start + len(payload))
    return bytes(joined)


def _subtract(sequence: int, first: int) -> int:
    """Compute a distance of sequence numbers, which wrap at 2^32."""
    return (sequence - first + 0x80000000) % 0x100000000 - 0x80000000
