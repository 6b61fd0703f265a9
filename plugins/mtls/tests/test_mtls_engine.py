"""Two transports with the core's engine, over sockets of this machine: what certificates and nodes change."""

import asyncio
import contextlib
import socket
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from maesh_mtls import MtlsSettings
from maesh_mtls.proxy import directory as directory_module
from maesh_mtls.proxy.transport import MtlsTransport
from maesh_mtls.wire import NodeEntry

from maesh_core.plugin import ClientEntry, Delivery, RemoteServer
from maesh_testing import FakeNode

from .certificates import make_credentials, make_leaf, make_signer
from .recorder import Recorder, wait_until

pytestmark = pytest.mark.slow
SIGNER = make_signer()
CLIENTS = {"10.1.0.1": ClientEntry("sender", "web@shop"), "10.1.0.2": ClientEntry("receiver", "web@shop")}


class Node:
    def __init__(self, name):
        self.name, self.node = name, FakeNode()
        self.transport = MtlsTransport(self.node, MtlsSettings())
        self.port, self.listener = 0, None

    async def listen(self):
        sock = socket.socket()
        sock.setblocking(False)
        sock.bind(("127.0.0.1", 0))
        sock.listen(100)
        self.port = sock.getsockname()[1]
        self.listener = await self.transport.open_listener(sock, self.port)

    def receive(self, credentials):
        self.transport.receive(msgspec.json.encode(credentials))

    async def close(self):
        self.transport.abort()
        if self.listener is not None:
            self.listener.close()
        await asyncio.sleep(0)
        self.node.close()


class Pair:
    """A sender and a receiver that know each other, and a pod of the receiver that echoes."""

    def __init__(self):
        self.sender, self.receiver = Node("sender"), Node("receiver")
        self._serving = 0

    async def start(self):
        self.pod = await asyncio.start_server(self._echo, "127.0.0.1", 0)
        self.pod_port = self.pod.sockets[0].getsockname()[1]
        await self.receiver.listen()
        self.apply()
        for node in (self.sender, self.receiver):
            node.receive(make_credentials(SIGNER, node.name))

    async def _echo(self, reader, writer):
        self._serving += 1
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        self._serving -= 1

    def apply(self, names=("sender", "receiver"), **revoked):
        nodes = {
            name: NodeEntry(
                addresses=("127.0.0.1",),
                port=self.receiver.port,
                identity=f"spiffe://cluster.local/maesh/node/{name}",
                revoked=revoked.get(name, ()),
            )
            for name in names
        }
        for node in (self.sender, self.receiver):
            node.transport.apply_nodes(nodes, CLIENTS)

    async def open(self, client="", mode="strict"):
        """Open a stream to the pod; returns its recorder."""
        path = self.sender.transport.find_path(RemoteServer("127.0.0.1", self.pod_port, "receiver"), mode)
        recorder = Recorder()
        delivery = Delivery(address="127.0.0.1", port=self.pod_port, service="shop/web:80", client=client)
        path.open(delivery, recorder)
        async with asyncio.timeout(60):
            await recorder.seen.wait()
        return recorder

    async def close(self):
        await self.sender.close()
        await self.receiver.close()
        self.pod.close()
        await self.pod.wait_closed()
        await wait_until(lambda: not self._serving)


@pytest.fixture
async def pair():
    pair = Pair()
    await pair.start()
    yield pair
    await pair.close()


async def echo(recorder, text):
    before = len(recorder.data)
    recorder.transport.write(text)
    await wait_until(lambda: len(recorder.data) >= before + len(text))
    assert bytes(recorder.data[before:]) == text


async def test_a_stream_reaches_the_pod(pair):
    await echo(await pair.open(), b"hello")


async def test_renewed_certificates_end_no_stream(pair):
    first = await pair.open()
    for node in (pair.sender, pair.receiver):
        node.receive(make_credentials(SIGNER, node.name))
    second = await pair.open()
    for recorder in (first, second):
        await echo(recorder, b"hello")
        assert recorder.lost == []


async def test_another_authority_is_introduced_without_a_failed_stream(pair):
    """The order of a rotation: both are trusted, then the new one signs, then the old one is not trusted any more."""
    new = make_signer()
    both = SIGNER.bundle + new.bundle
    streams = [await pair.open()]
    for signer, bundle in ((SIGNER, both), (new, both), (new, new.bundle)):
        for node in (pair.receiver, pair.sender):
            credentials = make_credentials(signer, node.name)
            node.receive(msgspec.structs.replace(credentials, bundle=bundle))
            streams.append(await pair.open())
            assert streams[-1].failure is None
    for recorder in streams:
        await echo(recorder, b"hello")


@pytest.mark.parametrize(
    "credentials",
    [
        msgspec.structs.replace(make_credentials(make_signer(), "sender"), bundle=SIGNER.bundle),
        make_leaf(SIGNER, ["spiffe://cluster.local/maesh/node/sender"] * 2),
        make_credentials(SIGNER, "unknown"),
        make_leaf(
            SIGNER, ["spiffe://cluster.local/maesh/node/sender"], ends=timedelta(days=2), starts=timedelta(days=1)
        ),
    ],
    ids=["another authority", "two identities", "unknown node", "not yet valid"],
)
async def test_a_sender_with_a_wrong_certificate_opens_nothing(pair, credentials):
    pair.sender.receive(credentials)
    recorder = await pair.open()
    assert recorder.transport is None
    assert recorder.failure.status == 0
    assert not recorder.failure.is_servers_fault


async def test_a_receiver_that_is_another_node_gets_nothing(pair):
    pair.receiver.receive(make_credentials(SIGNER, "sender"))
    assert (await pair.open()).failure.status == 0


async def test_a_receiver_whose_certificate_has_ended_gets_nothing(pair):
    pair.receiver.receive(make_credentials(SIGNER, "receiver", at=datetime.now(UTC) - timedelta(hours=25)))
    assert (await pair.open()).failure.status == 0


async def test_streams_of_a_revoked_certificate_are_reset_and_a_new_one_is_accepted(pair):
    lost = make_credentials(SIGNER, "sender")
    pair.sender.receive(lost)
    recorder = await pair.open()
    pair.apply(sender=(lost.serial,))
    await wait_until(lambda: recorder.lost)
    assert (await pair.open()).failure.status == 0
    pair.sender.receive(make_credentials(SIGNER, "sender"))
    await echo(await pair.open(), b"hello")


async def test_streams_of_a_node_that_leaves_are_reset(pair):
    recorder = await pair.open()
    pair.apply(names=("receiver",))
    await wait_until(lambda: recorder.lost)
    assert (await pair.open()).failure.status == 0


async def test_a_node_cannot_speak_for_clients_of_another_node(pair, monkeypatch):
    monkeypatch.setattr(directory_module, "WAIT_S", 0.0)
    await echo(await pair.open(client="10.1.0.1"), b"hello")
    for client in ("10.1.0.2", "10.1.0.3"):
        failure = (await pair.open(client=client)).failure
        assert (failure.status, failure.reason) == (403, "the client is not on the node that sends")
