"""Nodes and pods in network namespaces: machines that fail, pods that move, and an attacker who cuts and repeats."""

import contextlib
import itertools
import socket
import threading

import pytest

from maesh_testing import wait_until

from .hostile_relay import HostileRelay
from .three_nodes import HOST, HTTP_PORT, POD_PORT, TCP_PORT, TUNNEL_PORT, Load

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]
BODY = b"0123456789abcdef" * 65536
CUT_AFTER = 300_000


class RawServer:
    """A server in a pod that sends the same bytes on each connection after the first data, and closes it."""

    def __init__(self, pod, answer):
        self.count = 0
        self._answer = answer
        self._listening = pod.call(lambda: socket.create_server((pod.address, POD_PORT)))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self):
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            with client, contextlib.suppress(OSError):
                client.settimeout(60)
                client.recv(65536)
                self.count += 1
                client.sendall(self._answer)

    def close(self):
        self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join(60)
        self._listening.close()


@pytest.fixture
def relay(mesh, network):
    """Make a machine that the configuration has as the proxy of node b."""
    machine = network.add_node("relay")
    mesh.tunnel_addresses["b"] = machine.address
    with contextlib.closing(HostileRelay(machine, mesh.nodes["b"].address, TUNNEL_PORT)) as relay:
        yield relay


def read_to_end(sock):
    """Read until the end; returns what came, and whether the connection was reset."""
    received = bytearray()
    try:
        while data := sock.recv(65536):
            received += data
    except ConnectionResetError:
        return bytes(received), True
    return bytes(received), False


RESPONSES = {
    "a length": b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY),
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY),
    "the end of the connection": b"HTTP/1.1 200 OK\r\n\r\n" + BODY,
}


def is_complete(response, was_reset):
    """Say whether a client takes a response for a complete one."""
    head, _, body = response.partition(b"\r\n\r\n")
    if not head:
        return False
    if b"chunked" in head.lower():
        return body.endswith(b"0\r\n\r\n")
    if b"content-length" in head.lower():
        return len(body) >= len(BODY)
    return not was_reset


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("framing", RESPONSES)
def test_a_response_that_is_cut_between_the_nodes_is_never_complete_for_the_client(mesh, relay, framing, version):
    client, pod = mesh.add_client("a"), mesh.add_pod("b")
    request = f"GET / HTTP/{version}\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode()
    with contextlib.closing(RawServer(pod, RESPONSES[framing])):
        mesh.start()
        with mesh.connect(client, HTTP_PORT) as sock:
            sock.sendall(request)
            assert is_complete(*read_to_end(sock)), "without a cut"
        relay.cut_after = len(BODY) + CUT_AFTER
        with mesh.connect(client, HTTP_PORT) as sock:
            sock.sendall(request)
            response, was_reset = read_to_end(sock)
    assert relay.is_cut.is_set()
    assert response.startswith(b"HTTP/1."), "the head had passed"
    assert not is_complete(response, was_reset)


@pytest.mark.parametrize("attack", ["cut", "repeat"])
def test_a_tcp_connection_that_is_cut_or_repeated_between_the_nodes_is_reset(mesh, relay, attack):
    client, pod = mesh.add_client("a"), mesh.add_pod("b")
    with contextlib.closing(RawServer(pod, BODY)):
        mesh.start()
        setattr(relay, f"{attack}_after", CUT_AFTER)
        with mesh.connect(client, TCP_PORT) as sock:
            sock.sendall(b"x")
            received, was_reset = read_to_end(sock)
    assert was_reset
    assert len(received) < len(BODY)
    assert BODY.startswith(received), "what arrived is what was sent"
    reason = {"cut": "truncated", "repeat": "tls"}[attack]
    assert mesh.read_metric("a", f'maesh_tunnel_failures_total{{reason="{reason}",role="outgoing"}}') == 1


def test_recorded_bytes_of_a_sender_open_nothing(mesh, relay):
    client = mesh.add_client("a")
    _, upstream = mesh.add_server("b")
    mesh.start()
    assert mesh.get(client).text == "b"
    (record,) = relay.recorded
    assert len(record) > 1000
    failures = 'maesh_tunnel_failures_total{.*role="incoming"}'
    before = mesh.read_metric("b", failures)
    opened = mesh.read_metric("b", 'maesh_tunnel_opens_total{role="incoming"}')
    assert opened == 1
    with mesh.nodes["c"].connect(mesh.nodes["b"].address, TUNNEL_PORT) as sock:
        sock.sendall(record)
        read_to_end(sock)
    mesh.commands["b"].wait_until(lambda: mesh.read_metric("b", failures) > before, "a failure")
    assert mesh.read_metric("b", 'maesh_tunnel_opens_total{role="incoming"}') == opened
    assert upstream.count == 1
    assert mesh.get(client).text == "b"


def test_a_pod_moves_between_nodes_under_load_without_a_failed_request(mesh, network):
    client = mesh.add_client("a")
    before, _ = mesh.add_server("b")
    mesh.start()
    with contextlib.closing(Load(mesh, client)) as load, network.capture() as capture:
        for node in itertools.islice(itertools.cycle("cb"), 4):
            after, _ = mesh.add_server(node)
            del mesh.servers[before]
            mesh.write()
            mesh.wait_until_applied()
            load.wait_for({node})
            before = after
    assert {status for status, _ in load.answers} == {200}
    assert capture.find(HOST.encode()) == []


def test_a_node_drains_under_load_without_a_failed_request(mesh):
    client = mesh.add_client("a")
    for node in ("b", "c"):
        mesh.add_server(node)
    mesh.start()
    with contextlib.closing(Load(mesh, client)) as load:
        load.wait_for({"b", "c"})
        mesh.stop("b")
        load.wait_for({"c"})
        mesh.start_proxy("b")
        mesh.wait_for_proxy("b")
        load.wait_for({"b", "c"})
    assert {status for status, _ in load.answers} == {200}


def test_a_killed_node_is_avoided_and_used_again_when_it_is_back(mesh):
    client = mesh.add_client("a")
    for node in ("b", "c"):
        mesh.add_server(node)
    mesh.start()
    with contextlib.closing(Load(mesh, client)) as load:
        load.wait_for({"b", "c"})
        mesh.kill("b")
        start = load.wait_for({"c"})
        mesh.start_proxy("b")
        mesh.wait_for_proxy("b")
        load.wait_for({"b", "c"})
    assert {status for status, _ in load.answers[start:]} == {200}


def test_a_machine_that_falls_silent_is_given_up_and_its_connections_are_reset(mesh):
    client = mesh.add_client("a")
    mesh.add_server("b")
    mesh.start()
    assert mesh.get(client).text == "b"
    with mesh.connect(client) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n")
        mesh.commands["a"].wait_until(
            lambda: mesh.read_metric("a", 'maesh_tunnel_streams{role="outgoing"}') == 2, "the stream"
        )
        mesh.network.switch.run_ip("link", "set", mesh.nodes["b"].port, "down")
        received, was_reset = read_to_end(sock)
    assert (received, was_reset) == (b"", True)
    # "reset" if the kernel finds out first that the machine's address is not answered for any more
    assert mesh.read_metric("a", 'maesh_tunnel_failures_total{reason="(?:silence|reset)",role="outgoing"}') == 1
    mesh.network.switch.run_ip("link", "set", mesh.nodes["b"].port, "up")
    wait_until(lambda: mesh.get(client).text == "b", "the machine is back")


def test_bodies_and_tcp_connections_are_complete_although_packets_are_lost(mesh, network):
    client = mesh.add_client("a")
    _, upstream = mesh.add_server("b")
    upstream.body = BODY
    mesh.start()
    try:
        network.lose(0.02)
    except OSError as error:
        pytest.skip(f"this kernel cannot lose packets: {error}")
    with network.capture() as capture:
        for _ in range(5):
            answer = mesh.get(client, method="POST", body=BODY)
            assert answer.status == 200
            assert answer.text.encode() == BODY
        with mesh.connect(client) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            received, was_reset = read_to_end(sock)
    assert received.endswith(BODY)
    assert not was_reset
    assert {request.body for request in upstream.requests if request.method == "POST"} == {BODY}
    assert capture.count_repeated() > 10, "packets were lost and sent again"
    assert capture.find(BODY[:1000]) == []
