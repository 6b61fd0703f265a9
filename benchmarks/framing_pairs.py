"""Both ends of tunnels in one process, with three kinds of frames, for tunnel_framing.py.

Each pair carries requests and responses over real TLS on a pair of sockets. `EnginePair` is the engine
(maesh_core/proxy/tunnel), `LeanPair` has frames of four bytes (lean_frames.py), `BarePair` gives each stream a TLS
connection of its own, so a batch has no common records. Measures nothing.
"""

import asyncio
import math
import socket
import ssl
from collections.abc import Mapping, Sequence
from typing import Any

import trustme

from maesh_core.plugin_system.transports import ByRequest, Delivery
from maesh_core.proxy.tunnel.environment import TunnelEnvironment
from maesh_core.proxy.tunnel.incoming import IncomingConnection
from maesh_core.proxy.tunnel.outgoing import OutgoingConnection
from maesh_core.proxy.tunnel.receiver import Receiver
from maesh_core.proxy.tunnel.tls_socket import TlsSocket
from maesh_testing import FakeNode

RESPONSE = b"H" * 161
"""As long as the response to a small request is in benchmarks/mtls.py."""
STREAMS = 16


class Answering:
    """The protocol of a receiver's stream: answers each request."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.answer = RESPONSE

    def connection_made(self, transport: Any) -> None:
        """Keep the transport."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer; a piece of data is a request."""
        if self.answer:
            self.transport.write(self.answer)

    def connection_lost(self, error: Exception | None) -> None:
        """Do nothing."""


class Counting(Answering):
    """The protocol of a sender's stream: counts what it gets."""

    received = 0

    def data_received(self, data: bytes) -> None:
        """Count bytes."""
        Counting.received += len(data)


class Opening:
    """An open of the engine: starts the sender's protocol."""

    def on_opened(self, stream: Any) -> None:
        """Start the protocol."""
        stream.start(Counting())

    def on_refused(self, failure: object) -> None:
        """Fail the measurement."""
        raise RuntimeError(failure)

    def on_unprocessed(self, reason: str) -> None:
        """Fail the measurement."""
        raise RuntimeError(reason)


class Owner:
    """The owner of the engine's connection."""

    def on_ready(self, connection: object) -> None:
        """Do nothing."""

    def on_room(self, connection: object) -> None:
        """Do nothing."""

    def on_retired(self, connection: object) -> None:
        """Do nothing."""

    def on_connection_ended(self, connection: object) -> None:
        """Do nothing."""


class Rules:
    """Rules that judge every request, so that the receiver's streams have protocols too."""

    def find_identity(self, certificate: Mapping[str, Any], address: str) -> str:
        """Say that the peer is a node."""
        return "a"

    async def judge(self, node: str, delivery: Delivery) -> ByRequest:
        """Let each request be judged."""
        return ByRequest()

    def judge_again(self, node: str, delivery: Delivery) -> None:
        """Leave it open."""


class SecureChannel:
    """One end of a TLS connection; has the methods that frames need."""

    unsent_bytes = 0

    def __init__(self, environment: TunnelEnvironment, sock: socket.socket, context: ssl.SSLContext) -> None:
        is_server = context.protocol == ssl.PROTOCOL_TLS_SERVER
        self.tls = TlsSocket(environment, sock, context, is_server=is_server)
        self.write, self.flush = self.tls.write, self.tls.flush

    def close(self) -> None:
        """Do nothing: the process ends."""

    def abort(self) -> None:
        """Do nothing."""

    def read_more(self) -> None:
        """Do nothing: everything is read."""


def connect(environments: Sequence[TunnelEnvironment], contexts: Sequence[ssl.SSLContext]) -> list[SecureChannel]:
    """Connect two ends, and shake hands."""
    socks = socket.socketpair()
    for sock in socks:
        sock.setblocking(False)  # noqa: FBT003 - the method's name makes it clear
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    ends = [SecureChannel(*each) for each in zip(environments, socks, contexts, strict=True)]
    done = [False, False]
    while not all(done):
        for number, end in enumerate(ends):
            end.tls.feed()
            done[number] = end.tls.shake()
    return ends


class FramedPair:
    """Two ends with frames: `sender` and `receiver` have `begin_read`, `process` and `flush`."""

    def __init__(self, channels: Sequence[SecureChannel], environments: Sequence[TunnelEnvironment]) -> None:
        self.channels, self.environments = channels, environments
        self.sender: Any = None
        self.receiver: Any = None
        self.streams: list[Any] = []
        self.answering: list[Answering] = []

    def read(self, end: int) -> None:
        """Process everything that has arrived at an end: 0 is the sender."""
        connection, tls = (self.sender, self.receiver)[end], self.channels[end].tls
        if tls.feed() > 0:
            start = connection.begin_read()
            connection.process(tls.decrypt(start))

    def set_answer(self, answer: bytes) -> None:
        """Answer with these bytes from now on."""
        for each in self.answering:
            each.answer = answer

    def carry(self, batch: int, request: bytes) -> None:
        """Carry a request on each of the first streams, and their responses."""
        for stream in self.streams[:batch]:
            stream.write(request)
        self.sender.flush()
        self.read(1)
        self.receiver.flush()
        self.read(0)


class LeanPair(FramedPair):
    """The prototype."""

    def __init__(self, channels: Sequence[SecureChannel], environments: Sequence[TunnelEnvironment]) -> None:
        super().__init__(channels, environments)
        import lean_frames

        plains = [environment.plain for environment in environments]
        self.sender = lean_frames.LeanConnection(channels[0], plains[0], direct_writes=lean_frames.DIRECT_WRITES)
        self.receiver = lean_frames.LeanConnection(channels[1], plains[1], direct_writes=-1)
        for number in range(1, STREAMS + 1):
            answering = Answering()
            self.answering.append(answering)
            stream = lean_frames.LeanStream(self.receiver, number, answering)
            answering.connection_made(stream)
            self.receiver.streams[number] = stream
            self.streams.append(lean_frames.LeanStream(self.sender, number, Counting()))
            self.sender.streams[number] = self.streams[-1]


class EnginePair(FramedPair):
    """The engine's own connections and streams."""

    def __init__(self, channels: Sequence[SecureChannel], environments: Sequence[TunnelEnvironment]) -> None:
        super().__init__(channels, environments)
        self.sender = OutgoingConnection(environments[0], Owner())
        self.receiver = IncomingConnection(Receiver(environments[1], Rules(), self._serve), "a", math.inf)
        self.sender.begin(channels[0])
        self.receiver.begin(channels[1])

    async def _serve(self, delivery: Delivery) -> Any:
        answering = Answering()
        self.answering.append(answering)
        return answering

    async def open_all(self) -> None:
        """Exchange settings, and open the streams."""
        for _ in range(2):
            self.flush_all()
        for number in range(STREAMS):
            delivery = Delivery(address="127.0.0.1", port=number + 1, service="bench/bench:80")
            self.streams.append(self.sender.open(delivery, Opening()))
        self.flush_all()
        await asyncio.sleep(0.05)  # the receiver's verdicts are tasks
        self.flush_all()

    def flush_all(self) -> None:
        """Let both ends read what the other one has written."""
        for connection, end in ((self.sender, 1), (self.receiver, 0)):
            connection.flush()
            self.read(end)


class BarePair:
    """A TLS connection for each stream, without frames."""

    def __init__(self, contexts: Sequence[ssl.SSLContext], environments: Sequence[TunnelEnvironment]) -> None:
        self.environments = environments
        self.pairs = [connect(environments, contexts) for _ in range(STREAMS)]
        self.answering = [Answering() for _ in self.pairs]
        self.counting = Counting()
        for answering, (_, receiver) in zip(self.answering, self.pairs, strict=True):
            answering.connection_made(DirectTransport(receiver))

    def set_answer(self, answer: bytes) -> None:
        """Answer with these bytes from now on."""
        for each in self.answering:
            each.answer = answer

    def carry(self, batch: int, request: bytes) -> None:
        """Carry a request on each of the first connections, and their responses."""
        for sender, _ in self.pairs[:batch]:
            sender.write(request)
            sender.flush()
        for number, (_, receiver) in enumerate(self.pairs[:batch]):
            self._read(1, receiver.tls, self.answering[number])
        for sender, _ in self.pairs[:batch]:
            self._read(0, sender.tls, self.counting)

    def _read(self, end: int, tls: TlsSocket, protocol: Answering) -> None:
        view = self.environments[end].plain_view
        if tls.feed() > 0:
            protocol.data_received(bytes(view[: tls.decrypt(0)]))


class DirectTransport:
    """Encrypts and sends at once what a protocol writes."""

    def __init__(self, channel: SecureChannel) -> None:
        self._channel = channel

    def write(self, data: bytes) -> None:
        """Send."""
        self._channel.write(data)
        self._channel.flush()


def build_contexts() -> list[ssl.SSLContext]:
    """Build both ends' contexts: TLS 1.3 and ECDSA P-256."""
    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    contexts = []
    for protocol in (ssl.PROTOCOL_TLS_CLIENT, ssl.PROTOCOL_TLS_SERVER):
        context = ssl.SSLContext(protocol)
        context.check_hostname, context.verify_mode = False, ssl.CERT_REQUIRED
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        authority.issue_cert("node.bench", key_type=trustme.KeyType.ECDSA).configure_cert(context)
        authority.configure_trust(context)
        contexts.append(context)
    return contexts


async def build_pairs() -> dict[str, FramedPair | BarePair]:
    """Build a pair of ends for each framing."""
    loop, contexts = asyncio.get_running_loop(), build_contexts()
    environments = [TunnelEnvironment(FakeNode(), loop) for _ in range(2)]
    h2 = EnginePair(connect(environments, contexts), environments)
    await h2.open_all()
    lean = LeanPair(connect(environments, contexts), environments)
    return {"h2": h2, "lean": lean, "none": BarePair(contexts, environments)}
