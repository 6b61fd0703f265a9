"""What happens to an HTTP request whose path is refused or does not open: answered, retried, or set aside."""

import socket

import pytest

from maesh_core.model.configuration import Middleware as ConfiguredMiddleware
from maesh_core.plugin_system.transports import Refusal

from .fake_transport import FakeTransport, Receiver
from .http_sender import HttpServer, Sender
from .path_scenes import ENCRYPTED, UNREACHABLE, run


class Retry:
    """Asks for another attempt after each failure."""

    kept_bytes = 1000

    def on_attempt_failed(self, exchange, error):
        return exchange.attempts < 5


def retry(sender):
    sender.kinds = {"r": ConfiguredMiddleware(kind="retry")}
    sender.middlewares = {"r": Retry()}
    return sender


@pytest.mark.parametrize("mode", ["permissive", "strict"])
def test_a_node_that_does_not_answer_uses_up_half_of_the_connect_timeout(mode):
    async def scene():
        async with HttpServer() as server:
            with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
                fillers = [socket.socket() for _ in range(4)]
                for filler in fillers:
                    filler.setblocking(False)
                    filler.connect_ex(full.getsockname())
                transport = FakeTransport(there=full.getsockname())
                async with Sender(transport, server.port, mode=mode, connect_timeout=3) as sender:
                    reason = "encryption is required: no tunnel to node there (it did not answer in time)"
                    assert await sender.ask() == ((200, "ok") if mode == "permissive" else (503, reason))
                    assert sender.aside == []
                for filler in fillers:
                    filler.close()

    run(scene())


def test_a_server_that_is_silent_behind_its_node_is_set_aside_and_not_the_node():
    async def scene():
        async with HttpServer() as server, Receiver() as receiver:
            receiver.is_silent = True
            transport = FakeTransport(there=receiver.address)
            async with Sender(transport, server.port, connect_timeout=3) as sender:
                assert await sender.ask() == (504, "connecting to the upstream timed out")
                assert len(sender.aside) == 1
                receiver.is_silent = False
                assert await sender.ask() == (200, "ok")
                assert sender.count_paths() == {ENCRYPTED: 1}

    run(scene())


@pytest.mark.parametrize("mode", ["permissive", "strict"])
def test_a_denial_is_answered_with_403_and_never_retried(mode):
    async def scene():
        async with HttpServer() as server, HttpServer() as other, Receiver() as receiver:
            receiver.refusals = [Refusal(403, "access denied")]
            transport = FakeTransport(there=receiver.address)
            async with retry(Sender(transport, server.port, other.port, mode=mode)) as sender:
                assert await sender.ask() == (403, "access denied")
                assert (len(transport.deliveries), sender.aside) == (1, [])
                assert await sender.ask() == (200, "ok")

    run(scene())


@pytest.mark.parametrize(
    ("status", "aside", "answer"),
    [
        (404, 0, (502, "moved")),
        (502, 1, (502, "cannot connect to the upstream")),
        (504, 1, (504, "connecting to the upstream timed out")),
    ],
)
def test_a_refusal_about_the_server_is_a_failed_connect(status, aside, answer):
    async def scene():
        async with HttpServer() as server, Receiver() as receiver:
            receiver.refusals = [Refusal(status, "moved")]
            async with Sender(FakeTransport(there=receiver.address), server.port) as sender:
                assert await sender.ask() == answer
                assert len(sender.aside) == aside
                assert sender.count_paths() == {}

    run(scene())


@pytest.mark.parametrize("status", [404, 502, 504])
def test_a_request_that_a_node_could_not_deliver_is_retried_at_another_server(status):
    async def scene():
        async with HttpServer() as server, HttpServer() as other, Receiver() as receiver:
            receiver.refusals = [Refusal(status, "moved")]
            transport = FakeTransport(there=receiver.address)
            async with retry(Sender(transport, server.port, other.port, mode="strict")) as sender:
                assert await sender.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi") == (200, "ok")
                assert {delivery.port for delivery in transport.deliveries} == {server.port, other.port}
                assert server.requests + other.requests == 1

    run(scene())


def test_a_node_that_is_draining_is_set_aside_and_not_the_server():
    async def scene():
        async with HttpServer() as server, Receiver() as receiver:
            receiver.refusals = [Refusal(503, "draining")]
            async with Sender(FakeTransport(there=receiver.address), server.port, mode="strict") as sender:
                assert await sender.ask() == (503, "encryption is required: no tunnel to node there (draining)")
                assert sender.aside == []
                sender.clock.now += 2
                assert await sender.ask() == (200, "ok")

    run(scene())


def test_a_transport_that_raises_is_a_path_that_cannot_be_opened(caplog):
    class Broken(FakeTransport):
        def find_path(self, server, mode):
            return self

        def open(self, delivery, protocol):
            raise RuntimeError("no")

    async def scene():
        async with HttpServer() as server, Sender(Broken(), server.port) as sender:
            assert await sender.ask() == (200, "ok")
            assert sender.count_paths() == {UNREACHABLE: 1}

    run(scene())
    assert "a transport failed to open a path" in caplog.text
