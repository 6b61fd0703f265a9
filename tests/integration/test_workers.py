"""A node of several processes: workers killed, swapped under, drained and left alone; real processes throughout."""

import os
import re
import signal
import socket
import threading
from pathlib import Path

import pytest

from maesh_testing.commands import suspend

pytestmark = pytest.mark.integration

HOST = "cart.test.maesh"


def list_workers(pid):
    """List the processes that a proxy has started, oldest first."""
    return sorted(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def count_connections(pid, port):
    """Count a process's established connections on a local port."""
    inodes = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "01" and int(fields[1].rpartition(":")[2], 16) == port:
            inodes.add(f"socket:[{fields[9]}]")
    links = Path(f"/proc/{pid}/fd").iterdir()
    return sum(os.readlink(link) in inodes for link in links)


def is_listening(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Node:
    """A proxy with workers behind a controller, in front of one server."""

    def __init__(self, proxy, admin_port, port, get):
        self.proxy, self.admin_port, self.port, self.get = proxy, admin_port, port, get

    @property
    def workers(self):
        return list_workers(self.proxy.process.pid)

    @property
    def status(self):
        return self.get(self.admin_port, path="/status").json

    def read_metric(self, name):
        text = self.get(self.admin_port, path="/metrics").text
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE))


@pytest.fixture
def start_node(start_controller, start_proxy, start_upstream, manifests, build_service, free_port, get):
    """Start controller and proxy; returns a Node."""

    def start_node(*arguments, server="blue"):
        port = free_port()
        manifests.write("cart.json", build_service("cart", start_upstream(server).port))
        _, api_port = start_controller(manifests.path, "--http-port", port)
        proxy, admin_port = start_proxy(api_port, *arguments)
        return Node(proxy, admin_port, port, get)

    return start_node


@pytest.fixture
def hanging():
    """Give a server that answers only when it is let go, and knows when it was asked."""

    class Hanging:
        def __init__(self):
            self.listener = socket.create_server(("127.0.0.1", 0))
            self.port = self.listener.getsockname()[1]
            self.asked, self.go_on = threading.Event(), threading.Event()
            threading.Thread(target=self.serve, daemon=True).start()

        def serve(self):
            connection, _ = self.listener.accept()
            with connection:
                connection.recv(65536)
                self.asked.set()
                self.go_on.wait(60)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate")

    server = Hanging()
    yield server
    server.go_on.set()
    server.listener.close()


def ask_slowly(node, hanging):
    """Send a request that the server holds; returns the socket."""
    client = socket.create_connection(("127.0.0.1", node.port), 60)
    client.sendall(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
    assert hanging.asked.wait(60)
    return client


@pytest.fixture
def slow_node(start_node, hanging, manifests, build_service, wait_until):
    """Give a node whose one service is the hanging server."""

    def start(*arguments):
        node = start_node(*arguments)
        revision = node.status["revision"]
        manifests.write("cart.json", build_service("cart", hanging.port))
        wait_until(lambda: node.status["revision"] != revision, "the hanging server")
        return node

    return start


def read_all(client):
    answer = b""
    while chunk := client.recv(65536):
        answer += chunk
    return answer


def test_every_worker_serves_and_their_counters_add_up(start_node, get, wait_until):
    node = start_node("--workers", "2")
    assert node.status["workers"] == 2
    first, second = node.workers
    clients = []
    while not (count_connections(first, node.port) and count_connections(second, node.port)):
        client = socket.create_connection(("127.0.0.1", node.port), 60)
        client.sendall(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        assert client.recv(65536).startswith(b"HTTP/1.1 200")
        clients.append(client)
        assert len(clients) < 100
    assert node.read_metric("maesh_service_requests_total") == len(clients)
    for client in clients:
        client.close()


def test_killed_worker_is_replaced_and_fails_no_more_than_its_own_connections(start_node, start_load, wait_until):
    node = start_node("--workers", "2")
    load = start_load(node.port, HOST, connections=16)
    load.wait_for(500)
    before = node.read_metric("maesh_service_requests_total")
    victim, sibling = node.workers
    lost = count_connections(victim, node.port)
    kept = count_connections(sibling, node.port)
    assert lost + kept == 16
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: node.status["workers"] == 2 and victim not in node.workers, "the successor")
    after = node.read_metric("maesh_service_requests_total")
    assert after >= before
    assert sibling in node.workers
    assert count_connections(sibling, node.port) == kept
    answered = load.answers
    wait_until(lambda: not kept or load.answers > answered + 100, "traffic through the sibling")
    assert len(load.stop()) <= lost
    assert node.read_metric("maesh_service_requests_total") > after or not kept
    assert node.read_metric("maesh_proxy_worker_restarts_total") == 1


def test_what_waits_for_a_dead_worker_is_served_by_its_successor(start_node, get, wait_until):
    node = start_node()
    (victim,) = node.workers
    suspend(victim)
    clients = [socket.create_connection(("127.0.0.1", node.port), 60) for _ in range(50)]
    for client in clients:
        client.sendall(f"GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
    os.kill(victim, signal.SIGKILL)
    for client in clients:
        assert read_all(client).endswith(b"blue")
        client.close()


def test_swapping_configurations_under_load_loses_nothing(
    start_node, start_load, start_upstream, manifests, build_service
):
    node = start_node("--workers", "2")
    load = start_load(node.port, HOST, connections=8)
    servers = {name: start_upstream(name) for name in ("green", "red")}
    for name in ("green", "red") * 5:
        manifests.write("cart.json", build_service("cart", servers[name].port))
        load.wait_until_seen(name)
    assert load.stop() == []
    assert node.status["workers"] == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_drains_all_workers(slow_node, hanging, get, wait_until, number):
    node = slow_node("--workers", "2")
    client = ask_slowly(node, hanging)
    node.proxy.process.send_signal(number)
    wait_until(lambda: not is_listening(node.port), "no more connections")
    assert get(node.admin_port, path="/ready").status == 503
    hanging.go_on.set()
    answer = read_all(client)
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in answer.lower()
    assert answer.endswith(b"late")
    assert node.proxy.wait() == 0
    client.close()


def test_drain_ends_at_its_limit(slow_node, hanging):
    node = slow_node("--drain-timeout", "100ms")
    client = ask_slowly(node, hanging)
    assert node.proxy.stop() == 0
    client.close()


def test_second_signal_cuts_at_once_with_status_1(slow_node, hanging, wait_until, get):
    node = slow_node("--workers", "2", "--drain-timeout", "10m")
    client = ask_slowly(node, hanging)
    workers = node.workers
    node.proxy.process.send_signal(signal.SIGTERM)
    wait_until(lambda: get(node.admin_port, path="/ready").status == 503, "the drain")
    assert node.proxy.stop(signal.SIGTERM) == 1
    assert not any(map(is_running, workers))
    client.close()


def test_signals_to_a_worker_are_left_to_the_parent(start_node, get):
    node = start_node()
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(node.workers[0], number)
    assert get(node.port, HOST).text == "blue"
    assert node.read_metric("maesh_proxy_worker_restarts_total") == 0


def test_workers_end_when_their_parent_is_killed(start_node, wait_until):
    node = start_node("--workers", "2")
    workers = node.workers
    assert len(workers) == 2
    node.proxy.process.kill()
    node.proxy.wait()
    wait_until(lambda: not any(map(is_running, workers)), "the workers' end")


def test_port_of_another_proxy_is_found_to_be_taken(start_node, start_maesh, free_port, start_controller, manifests):
    node = start_node("--workers", "2")
    _, api_port = start_controller(manifests.path, "--http-port", node.port)
    other = start_maesh(
        *("proxy", "--endpoint", f"http://127.0.0.1:{api_port}", "--bind", "127.0.0.1", "--workers", 2),
        *("--admin-host", "127.0.0.1", "--admin-port", free_port()),
    )
    assert other.wait() == 1
    line = f"maesh: error: cannot listen on 127.0.0.1:{node.port} (TCP): Address already in use\n"
    assert other.stderr == line


def test_cached_configuration_is_served_while_the_controller_is_away(
    start_controller, start_proxy, start_upstream, manifests, build_service, free_port, get, tmp_path, wait_until
):
    port, cache = free_port(), tmp_path / "cache"
    manifests.write("cart.json", build_service("cart", start_upstream("blue").port))
    controller, api_port = start_controller(manifests.path, "--http-port", port)
    proxy, _ = start_proxy(api_port, "--configuration-cache", cache)
    wait_until(cache.exists, "the cache")
    assert cache.stat().st_mode & 0o777 == 0o600
    assert (proxy.stop(), controller.stop()) == (0, 0)

    proxy, admin_port = start_proxy(api_port, "--configuration-cache", cache)
    assert get(port, HOST).text == "blue"
    cached = get(admin_port, path="/status").json["revision"]
    manifests.write("cart.json", build_service("cart", start_upstream("green").port))
    start_controller(manifests.path, "--http-port", port, port=api_port)
    wait_until(lambda: get(port, HOST).text == "green", "the controller's configuration")
    assert get(admin_port, path="/status").json["revision"] != cached
    assert proxy.stop() == 0


@pytest.mark.parametrize(
    "content", [b"precious", b"", b'{"format":"maesh configuration 1","endpoint":"x","sha256":""}\n']
)
def test_a_file_that_is_no_cache_is_reported_and_ignored(start_proxy, start_node, tmp_path, content):
    cache = tmp_path / "cache"
    cache.write_bytes(content)
    node = start_node("--configuration-cache", cache)
    node.proxy.wait_until(lambda: "ignoring configuration cache" in node.proxy.stderr, "the complaint")
    assert node.get(node.port, HOST).text == "blue"
    assert content != b"precious" or cache.read_bytes() == content


def test_up_has_workers_too(up, manifests, get):
    mesh = up(manifests.path, "--workers", "2")
    assert get(mesh.admin_port, path="/status").json["workers"] == 2
