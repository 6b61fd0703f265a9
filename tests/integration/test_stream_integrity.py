"""What passes an entrypoint is the same bit for bit, however it is cut and however slowly somebody reads."""

import contextlib
import hashlib
import random
import socket
import threading
import time

import pytest

pytestmark = pytest.mark.integration

STREAM_BYTES = 24 << 20
LARGEST_CHUNK = 300_000
CLIENTS = 3


def send_stream(sock, seed):
    """Send a stream in chunks of any size, with pauses, and end this side; gives its digest."""
    chance, digest = random.Random(seed), hashlib.sha256()
    left = STREAM_BYTES
    while left:
        chunk = chance.randbytes(min(left, draw_size(chance)))
        digest.update(chunk)
        sock.sendall(chunk)
        left -= len(chunk)
        pause(chance)
    sock.shutdown(socket.SHUT_WR)
    return digest.hexdigest()


def receive_stream(sock, seed):
    """Read a stream to its end, in pieces of any size, with pauses; gives length and digest."""
    chance, digest, count = random.Random(seed), hashlib.sha256(), 0
    while piece := sock.recv(draw_size(chance)):
        digest.update(piece)
        count += len(piece)
        pause(chance)
    return count, digest.hexdigest()


def draw_size(chance):
    """Draw small sizes as often as large ones."""
    return max(1, int(LARGEST_CHUNK ** chance.random()))


def pause(chance):
    """Wait now and then."""
    if chance.random() < 0.03:
        time.sleep(chance.random() * 0.02)


def exchange_streams(sock, seed):
    """Send and receive at the same time; gives what was sent, and what came: digest, length and digest."""
    sent = []
    sender = threading.Thread(target=lambda: sent.append(send_stream(sock, seed)))
    sender.start()
    received = receive_stream(sock, seed + 1)
    sender.join(60)
    return *sent, *received


class StreamServer:
    """Exchanges streams with everybody who connects, and keeps what it sent and received."""

    def __init__(self):
        self.results = {}
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._serve, args=[seed]) for seed in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def _serve(self, number):
        with contextlib.suppress(OSError):
            connection, _ = self._listener.accept()
            with connection:
                connection.settimeout(50)
                name = connection.recv(1)  # which client this is
                self.results[name] = exchange_streams(connection, 1000 + number)

    def wait(self):
        for thread in self._threads:
            thread.join(60)
        self._listener.close()


@pytest.fixture
def stream_server():
    server = StreamServer()
    yield server
    server.wait()


def test_streams_both_ways_at_once_arrive_bit_for_bit(up, manifests, build_service, free_port, get, stream_server):
    manifests.write("app.json", build_service("app", stream_server.port, annotations={"traffic-type": "tcp"}))
    entrypoint = free_port()
    mesh = up(manifests.path, "--tcp-port", entrypoint, "--limit-tcp-port", 1, "--limit-http-port", 1)
    results = {}

    def run_client(number):
        name = b"%d" % number
        with socket.create_connection(("127.0.0.1", entrypoint), 50) as sock:
            sock.sendall(name)
            results[name] = exchange_streams(sock, number)

    clients = [threading.Thread(target=run_client, args=[number]) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    for client in clients:
        client.join(60)
    stream_server.wait()
    assert len(results) == CLIENTS
    for name, (sent, length, received) in results.items():
        server_sent, server_length, server_received = stream_server.results[name]
        assert (length, server_length) == (STREAM_BYTES, STREAM_BYTES)
        assert (received, server_received) == (server_sent, sent)
    metrics = dict(line.rsplit(" ", 1) for line in get(mesh.admin_port, path="/metrics").text.splitlines())
    carried = CLIENTS * STREAM_BYTES
    assert float(metrics['maesh_tcp_received_bytes_total{service="test/app:80"}']) == carried + CLIENTS
    assert float(metrics['maesh_tcp_sent_bytes_total{service="test/app:80"}']) == carried
