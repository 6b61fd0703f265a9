"""Any bytes and any order of events: nothing raises, nothing is left behind, and no stream gets another's bytes."""

import asyncio
import random

import pytest

from maesh_core.plugin_system.transports import Delivery
from maesh_core.proxy.http.http2 import frames as h2
from maesh_testing import FakeNode

from .conftest import Recorder, wait_until
from .scripted import Opening, Scripted, frame

KINDS = (*range(10), 0x77)
DELIVERY = Delivery(address="10.1.0.1", port=80, service="ns/web:80")


@pytest.fixture
async def node():
    node = FakeNode()
    yield node
    node.close()


def render_noise(chance, scripted, streams):
    """Render a frame that is often valid."""
    stream_id = chance.choice((0, *streams))
    if chance.random() < 0.02:
        return chance.randbytes(chance.randrange(40))
    kind = chance.choice(KINDS)
    if kind == h2.HEADERS and chance.random() < 0.7:
        return scripted.headers(stream_id, (b":status", chance.choice((b"200", b"503"))))
    payloads = {h2.WINDOW_UPDATE: 4, h2.RST_STREAM: 4, h2.PING: 8, h2.GOAWAY: 8, h2.PRIORITY: 5, h2.SETTINGS: 0}
    size = payloads.get(kind, chance.randrange(100))
    if kind == h2.WINDOW_UPDATE:
        return h2.render_window_update(stream_id, chance.randrange(1, 1000))
    flags = chance.choice((0, 0, 0, h2.END_STREAM, h2.PADDED, h2.END_HEADERS))
    return frame(kind, flags, stream_id, bytes(size) if chance.random() < 0.9 else chance.randbytes(size))


@pytest.mark.parametrize("seed", range(150))
async def test_any_frames_leave_a_sender_in_order(node, seed):
    chance = random.Random(seed)
    scripted = Scripted(node, "outgoing").start()
    openings = [Opening(Recorder()) for _ in range(5)]
    for opening in openings:
        scripted.connection.open(DELIVERY, opening)
    for _ in range(200):
        if scripted.connection.is_ended:
            break
        scripted.feed(render_noise(chance, scripted, (1, 3, 5, 7, 9, 11, 2)), step=chance.choice((1, 5, 1000)))
        for opening in openings:
            if opening.stream is not None and chance.random() < 0.3:
                act_at_random(chance, opening.stream)
    scripted.connection.end("")
    await asyncio.sleep(0.001)
    assert not scripted.connection.streams
    for opening in openings:
        if opening.stream is not None:
            assert len(opening.protocol.lost) == 1
        else:
            assert opening.failure is not None or opening.unprocessed
    assert scripted.environment.counters.streams["outgoing"] == 0


def act_at_random(chance, transport):
    act = chance.choice(("write", "write", "pause_reading", "resume_reading", "write_eof", "close", "abort"))
    if act == "write":
        transport.write(chance.randbytes(chance.randrange(2000)))
    elif act in {"pause_reading", "resume_reading"} or chance.random() < 0.1:
        getattr(transport, act)()


@pytest.mark.parametrize("seed", range(60))
async def test_any_frames_leave_a_receiver_in_order(node, seed):
    chance = random.Random(seed)
    scripted = Scripted(node, "incoming").start()
    for number in range(1, 11, 2):
        fields = ((b":method", b"CONNECT"), (b":authority", b"127.0.0.1:1"), (b"maesh-protocol", b"tcp"))
        scripted.feed(scripted.headers(number, *fields))
    for _ in range(200):
        if scripted.connection.is_ended:
            break
        scripted.feed(render_noise(chance, scripted, (1, 3, 5, 7, 9, 11, 2)), step=chance.choice((1, 5, 1000)))
        if chance.random() < 0.05:
            await asyncio.sleep(0)
    scripted.connection.end("")
    await asyncio.sleep(0.001)
    assert not scripted.receiver.streams
    assert not scripted.receiver.waiting
    assert scripted.environment.counters.streams["incoming"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
async def test_streams_that_come_and_go_never_get_the_bytes_of_others(sender, receiver, pod, seed):
    """Each stream repeats its own byte; some are paused, closed, aborted or reset by the pod on the way."""
    chance = random.Random(seed)
    loop = asyncio.get_running_loop()

    async def serve(client):
        try:
            while data := await loop.sock_recv(client, chance.choice((100, 65536))):
                assert len(set(data)) == 1
                await loop.sock_sendall(client, data)
                if chance.random() < 0.02:
                    break
        except ConnectionError:
            pass
        client.close()

    async def accept():
        while True:
            client = await pod.accept()
            tasks.append(asyncio.create_task(serve(client)))

    async def use_stream(byte):
        from .conftest import build_delivery

        protocol = Recorder()
        sender.tunnels.open(receiver.peer, build_delivery(pod.port), protocol)
        await wait_until(protocol.seen.is_set)
        assert protocol.failure is None
        for _ in range(chance.randrange(1, 12)):
            protocol.transport.write(bytes([byte]) * chance.choice((1, 500, 70_000)))
            if chance.random() < 0.3:
                protocol.transport.pause_reading()
                await asyncio.sleep(0)
                protocol.transport.resume_reading()
            await asyncio.sleep(chance.choice((0, 0.001)))
        getattr(protocol.transport, chance.choice(("close", "abort", "write_eof")))()
        await wait_until(lambda: protocol.lost)
        assert set(protocol.data) <= {byte}

    tasks: list[asyncio.Task[None]] = []
    accepting = asyncio.create_task(accept())
    await asyncio.gather(*(use_stream(number % 250 + 1) for number in range(60)))
    await wait_until(lambda: receiver.count("tunnel_streams", role="incoming") == 0)
    accepting.cancel()
    results = await asyncio.gather(*tasks, accepting, return_exceptions=True)
    assert [each for each in results if isinstance(each, AssertionError)] == []
    assert sender.count("tunnel_streams", role="outgoing") == 0
    assert sender.count("tunnels", role="outgoing") == 1
