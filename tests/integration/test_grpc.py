"""grpcio's own client and server with the mesh between them, as users run both."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

grpc = pytest.importorskip("grpc", reason="grpcio is not installed: make grpc")

ROOT = Path(__file__).resolve().parents[2]
HOST = "app.test.maesh"
PATIENCE_S = 60.0

pytestmark = [pytest.mark.integration, pytest.mark.peer]


class EchoServer:
    """A server of benchmarks/grpc_server.py."""

    def __init__(self, port, name):
        self.address, self.port, self.name = "127.0.0.1", port, name
        command = [sys.executable, str(ROOT / "benchmarks" / "grpc_server.py"), self.address, str(port), name]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert self.process.stdout.readline() == b"ready\n"

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def start_servers(free_port):
    servers = []

    def start(count=1):
        fresh = [EchoServer(free_port(), f"server-{number}") for number in range(1, count + 1)]
        servers.extend(fresh)
        return fresh

    yield start
    for server in servers:
        server.close()


class Client:
    """Calls the service over one connection."""

    def __init__(self, port, **options):
        given = {
            "default_authority": HOST,
            "use_local_subchannel_pool": 1,
            "max_receive_message_length": -1,
            "enable_retries": 0,
            **options,
        }
        channel_options = [(f"grpc.{name}", value) for name, value in given.items()]
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}", channel_options)

    def unary(self, request, **arguments):
        return self.channel.unary_unary("/bench.Echo/Unary")(request, timeout=PATIENCE_S, **arguments)

    def unary_with_call(self, request, **arguments):
        return self.channel.unary_unary("/bench.Echo/Unary").with_call(request, timeout=PATIENCE_S, **arguments)

    def fail(self, request, **arguments):
        """Give the error of a unary call."""
        with pytest.raises(grpc.RpcError) as caught:
            self.channel.unary_unary("/bench.Echo/Unary")(request, **{"timeout": PATIENCE_S, **arguments})
        return caught.value

    def expand(self, request):
        return self.channel.unary_stream("/bench.Echo/Expand")(request, timeout=PATIENCE_S)

    def collect(self, requests):
        return self.channel.stream_unary("/bench.Echo/Collect")(requests, timeout=PATIENCE_S)

    def converse(self, requests, timeout_s=PATIENCE_S):
        return self.channel.stream_stream("/bench.Echo/Converse")(requests, timeout=timeout_s)


@pytest.fixture
def start_client():
    clients = []

    def start(port, **options):
        clients.append(Client(port, **options))
        return clients[-1]

    yield start
    for client in clients:
        client.channel.close()


@pytest.fixture
def start(start_mesh, start_servers, start_client):
    """Start servers, a mesh in front of them, and a client; give the mesh and the client."""

    def start_all(*flags, count=1, **annotations):
        texts = {name.replace("_", "-"): text for name, text in annotations.items()}
        mesh = start_mesh(*flags, annotations={"scheme": "h2c", **texts}, servers=start_servers(count))
        return mesh, start_client(mesh.http_port)

    return start_all


def read_count(mesh, status):
    line = f'maesh_service_grpc_responses_total{{grpc_status="{status}",service="test/app:80"}} '
    values = [text.removeprefix(line) for text in mesh.read_metrics().splitlines() if text.startswith(line)]
    return float(values[0]) if values else 0.0


def test_calls_of_all_four_kinds(start):
    mesh, client = start()
    assert client.unary(b"hello") == b"hello"
    assert client.unary(b"") == b""
    assert list(client.expand(b"200")) == [b"%d" % number for number in range(200)]
    assert client.collect(iter([b"a" * size for size in range(100)])) == b"100 4950"
    assert list(client.converse(iter([b"a", b"", b"c"]))) == [b"a", b"", b"c", b"bye"]
    mesh.wait_until(lambda: read_count(mesh, 0) == 5, "five calls are counted")


def test_a_bidirectional_call_answers_while_its_client_still_sends(start):
    _, client = start()
    next_request = threading.Semaphore(0)
    responses = []

    def send():
        for number in range(5):
            next_request.acquire(timeout=PATIENCE_S)
            yield b"%d" % number

    call = client.converse(send())
    for number in range(5):
        next_request.release()
        responses.append(next(call))
        assert responses[-1] == b"%d" % number
    assert list(call) == [b"bye"]  # after the half-close
    assert call.code() is grpc.StatusCode.OK


def test_metadata_and_trailers_pass_binary_ones_too(start):
    _, client = start()
    metadata = (("x-a", "1"), ("x-a", "2"), ("x-b-bin", b"\0\xff,"))
    response, call = client.unary_with_call(b"metadata", metadata=metadata)
    received = dict(eval(response.decode()))
    assert received["x-b-bin"] == b"\0\xff,"
    assert received["x-a"] in ("1, 2", "1,2", "2")
    assert received["x-forwarded-for"] == "127.0.0.1"
    head = {each.key: each.value for each in call.initial_metadata()}
    assert (head["x-server"], head["x-head-bin"]) == ("server-1", b"\0\xff")
    trailers = {each.key: each.value for each in call.trailing_metadata()}
    assert (trailers["x-trailer"], trailers["x-trailer-bin"]) == ("end", b"\0\1")


def test_errors_arrive_with_their_details(start):
    mesh, client = start()
    error = client.fail(b"fail")
    assert (error.code(), error.details()) == (grpc.StatusCode.FAILED_PRECONDITION, "läuft nicht: 100 %\nat all")
    trailers = {each.key: each.value for each in error.trailing_metadata()}
    assert (trailers["grpc-status-details-bin"], trailers["x-retry"]) == (b"\x08\x09\x12\x04lost", "no")
    error = client.channel.unary_unary("/bench.Echo/None")
    with pytest.raises(grpc.RpcError) as caught:
        error(b"", timeout=PATIENCE_S)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    mesh.wait_until(lambda: read_count(mesh, 9) == read_count(mesh, 12) == 1, "both are counted")


def test_a_deadline_ends_the_call_also_at_the_server(start):
    mesh, client = start()
    error = client.fail(b"sleep 30", timeout=2)
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    mesh.wait_until(lambda: client.unary(b"cancelled") == b"1", "the server sees it")


def test_a_cancelled_call_is_cancelled_at_the_server_and_the_connection_goes_on(start):
    mesh, client = start()
    future = client.channel.unary_unary("/bench.Echo/Unary").future(b"sleep 30", timeout=PATIENCE_S)
    endless = client.expand(b"-1")
    assert next(endless) == b"0"
    mesh.wait_until(lambda: client.unary(b"waiting") == b"2", "the server has both")
    future.cancel()
    endless.cancel()
    mesh.wait_until(lambda: client.unary(b"cancelled") == b"2", "the server sees both")
    mesh.wait_until(lambda: read_count(mesh, 1) == 2, "both are counted")


def test_large_messages_and_compressed_ones_pass_both_ways(start):
    _, client = start()
    large = bytes(range(256)) * 4 * 6000  # 6 MB, above grpcio's default limit of 4 MiB
    assert client.unary(large) == large
    assert len(client.unary(b"size 20000000")) == 20_000_000
    assert client.unary(large, compression=grpc.Compression.Gzip) == large
    assert list(client.converse(iter([large] * 3))) == [large, large, large, b"bye"]


def test_calls_over_one_connection_are_balanced_among_servers(start):
    _, client = start(count=2)
    assert [client.unary(b"name") for _ in range(6)] in (
        [b"server-1", b"server-2"] * 3,
        [b"server-2", b"server-1"] * 3,
    )


def test_a_server_that_ends_is_unavailable_and_a_retry_hides_it(start):
    mesh, client = start(count=2, retry_on="unavailable", retry_attempts="3")
    first, second = mesh.upstreams
    assert {client.unary(b"name") for _ in range(4)} == {b"server-1", b"server-2"}
    slow = client.channel.unary_unary("/bench.Echo/Unary")
    waiting = [slow.future(b"sleep 1", timeout=PATIENCE_S) for _ in range(4)]
    time.sleep(0.3)
    first.process.kill()
    first.process.wait()
    assert [each.result() for each in waiting] == [b"sleep 1"] * 4
    assert [client.unary(b"name") for _ in range(10)] == [b"server-2"] * 10
    second.process.kill()
    second.process.wait()
    error = client.fail(b"name")
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "upstream" in error.details() or "usable server" in error.details()
    assert mesh.wait_until(lambda: read_count(mesh, 14), "it is counted")


def test_two_streams_of_one_connection_are_limited_each_for_itself(start):
    mesh, client = start(ratelimit_average="1", ratelimit_burst="2")
    futures = [client.channel.unary_unary("/bench.Echo/Unary").future(b"x", timeout=PATIENCE_S) for _ in range(6)]
    codes = sorted(future.code().name for future in futures)
    assert codes.count("OK") in (2, 3)
    assert set(codes) == {"OK", "RESOURCE_EXHAUSTED"}
    limited = next(future for future in futures if future.code() is grpc.StatusCode.RESOURCE_EXHAUSTED)
    metadata = {each.key: each.value for each in (*limited.initial_metadata(), *limited.trailing_metadata())}
    assert metadata["x-maesh-reason"] == limited.details()
    assert metadata["retry-after"]
    assert mesh.wait_until(lambda: read_count(mesh, 8), "they are counted")


@pytest.mark.timeout(300)
def test_a_soak_fails_no_unary_call_and_hangs_none():
    command = [sys.executable, str(ROOT / "benchmarks" / "grpc_soak.py"), "--unary", "1500", "--streams", "150"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["outcomes"]["unary OK"] == 1500
    assert report["restarts"] >= 1
