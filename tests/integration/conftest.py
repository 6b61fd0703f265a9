"""Runs the real commands as processes, with servers and clients of the standard library around them.

What a test starts ends with it, by process id; a process that does not end, or leaves a child behind, fails the test.
"""

import contextlib
import http.client
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

PATIENCE_S = 20.0
FIRST_TEST_PORT, LAST_TEST_PORT = 20000, 32000  # below the ports that Linux gives to outgoing connections


def wait_until(condition, what, timeout_s=PATIENCE_S):
    """Poll until the condition gives something true, and return that."""
    deadline = time.monotonic() + timeout_s
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {timeout_s:g} s")
        time.sleep(0.02)
    return result


@pytest.fixture(name="wait_until")
def wait_until_fixture():
    return wait_until


@pytest.fixture
def free_port():
    """Give ports that nobody listens on, each once in a test."""
    given = set()

    def find_free_port():
        while True:
            port = random.randint(FIRST_TEST_PORT, LAST_TEST_PORT)
            with socket.socket() as probe, contextlib.suppress(OSError):
                probe.bind(("", port))
                if port not in given:
                    given.add(port)
                    return port

    return find_free_port


class Command:
    """A running `maesh` command."""

    def __init__(self, program, arguments, folder, environment):
        folder.mkdir()
        self.stdout_path, self.stderr_path = folder / "stdout", folder / "stderr"
        self.arguments = [str(argument) for argument in arguments]
        with self.stdout_path.open("wb") as stdout, self.stderr_path.open("wb") as stderr:
            self.process = subprocess.Popen(
                [program, *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=environment,
                start_new_session=True,
            )

    @property
    def stdout(self):
        return self.stdout_path.read_text()

    @property
    def stderr(self):
        return self.stderr_path.read_text()

    @property
    def status(self):
        return self.process.poll()

    def wait_until(self, condition, what):
        """Wait for the condition while the command runs; its end is an error that shows what it wrote."""

        def check():
            if self.status is not None:
                raise AssertionError(f"{self} ended with {self.status} before: {what}\n{self.stdout}\n{self.stderr}")
            return condition()

        return wait_until(check, f"{self}: {what}")

    def wait(self, timeout_s=PATIENCE_S):
        """Wait for the end; returns the status."""
        return self.process.wait(timeout_s)

    def stop(self, number=signal.SIGTERM, timeout_s=PATIENCE_S):
        """Send a signal and wait for the end; returns the status."""
        self.process.send_signal(number)
        return self.wait(timeout_s)

    def find_left_behind(self):
        """Find what still runs in the command's session."""
        return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _session(pid) == self.process.pid]

    def __repr__(self):
        return f"<maesh {' '.join(self.arguments)}>"


def _session(pid):
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[3])


@pytest.fixture
def environment(tmp_path):
    """Give the environment of a user who has set nothing."""
    kept = {name: value for name, value in os.environ.items() if not re.match(r"(TRAEFIK_)?(MESH|MAESH)_", name)}
    return kept | {"HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}


@pytest.fixture
def maesh_program():
    """Give the command of the environment that the tests run in."""
    return Path(sys.executable).with_name("maesh")


@pytest.fixture
def start(tmp_path, environment, maesh_program):
    """Start `maesh ARGUMENTS`; at the end of the test what still runs must end cleanly on SIGTERM."""
    commands = []

    def start_command(*arguments, env=None):
        command = Command(maesh_program, arguments, tmp_path / f"command-{len(commands)}", environment | (env or {}))
        commands.append(command)
        return command

    yield start_command
    complaints = []
    for command in reversed(commands):
        complaints += _end(command)
    assert not complaints, "\n".join(complaints)


def _end(command):
    complaints = []
    if command.status is None:
        try:
            status = command.stop()
            if status != 0:
                complaints.append(f"{command} ended with {status} on SIGTERM:\n{command.stderr}")
        except subprocess.TimeoutExpired:
            command.process.kill()
            command.wait()
            complaints.append(f"{command} did not end on SIGTERM:\n{command.stderr}")
    for pid in command.find_left_behind():
        os.kill(pid, signal.SIGKILL)
        complaints.append(f"{command} left process {pid} behind")
    return complaints


@pytest.fixture
def run(start):
    """Run `maesh ARGUMENTS` to its end."""

    def run_command(*arguments, env=None):
        command = start(*arguments, env=env)
        command.wait(30)
        return command

    return run_command


class Mesh:
    """`maesh up` that is ready."""

    def __init__(self, command, ports, services):
        self.command, self.services = command, services
        self.http_port, self.api_port, self.admin_port = ports


@pytest.fixture
def up(start, free_port):
    """Start `maesh up PATH ... --json` on free ports and wait until it is ready."""

    def start_up(*arguments, env=None):
        ports = [free_port() for _ in range(3)]
        command = start(
            "up",
            "--http-port",
            ports[0],
            "--api-port",
            ports[1],
            "--admin-port",
            ports[2],
            "--json",
            *arguments,
            env=env,
        )
        command.wait_until(lambda: "\n" in command.stdout, "one line on standard output")
        return Mesh(command, ports, json.loads(command.stdout))

    return start_up


@pytest.fixture
def start_controller(start, free_port, get):
    """Start `maesh controller PATH ...` and wait until it is ready; returns the command and its API's port."""

    def start_controller(*arguments, port=None, env=None):
        port = port or free_port()
        command = start("controller", "--api-host", "127.0.0.1", "--api-port", port, *arguments, env=env)
        command.wait_until(lambda: get(port, path="/api/status/readiness").status == 200, "readiness")
        return command, port

    return start_controller


@pytest.fixture
def start_proxy(start, free_port, get):
    """Start `maesh proxy` and wait until it is ready; returns the command and its admin port."""

    def start_proxy(api_port, *arguments, env=None):
        admin_port = free_port()
        command = start(
            *("proxy", "--endpoint", f"http://127.0.0.1:{api_port}", "--bind", "127.0.0.1"),
            *("--admin-host", "127.0.0.1", "--admin-port", admin_port),
            *arguments,
            env=env,
        )
        command.wait_until(lambda: get(admin_port, path="/ready").status == 200, "readiness")
        return command, admin_port

    return start_proxy


class Answer:
    """What came back on a request; status 0 when nothing did."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def text(self):
        return self.body.decode()

    @property
    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"<{self.status} {self.body!r}>"


@pytest.fixture
def get():
    """Send one request on a connection of its own."""

    def send_request(port, host=None, path="/", *, method="GET", headers=None, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request(method, path, body, {**({"Host": host} if host else {}), **(headers or {})})
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        except ConnectionError as error:
            return Answer(0, {}, str(error).encode())
        finally:
            connection.close()

    return send_request


class UpstreamHandler(BaseHTTPRequestHandler):
    """Answers with the server's name; the request's headers come back as JSON under /headers."""

    protocol_version = "HTTP/1.1"
    wbufsize = 65536
    timeout = 30

    def do_GET(self):
        self.server.count += 1
        body = self.server.name.encode()
        if self.path == "/headers":
            body = json.dumps({name.lower(): value for name, value in self.headers.items()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):  # noqa: A002 - the name is the base class's
        pass


class Upstream(ThreadingHTTPServer):
    """A server behind the mesh, with a name."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, name, port):
        super().__init__(("127.0.0.1", port), UpstreamHandler)
        self.name, self.port, self.count = name, port, 0

    def handle_error(self, request, client_address):
        """Leave a connection that was cut to the client: the tests look at what it sees."""


@pytest.fixture
def start_upstream(free_port):
    """Start a server with a name."""
    servers = []

    def start_server(name):
        server = Upstream(name, free_port())
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        servers.append(server)
        return server

    yield start_server
    for server in servers:
        server.shutdown()
        server.server_close()


class Load:
    """Clients that send one request after another over kept connections, until stopped."""

    LIMIT = 200_000

    def __init__(self, port, host, *, connections=4):
        self.answers = 0
        self.failures = []
        self.seen = {}
        self._port, self._host = port, host
        self._is_stopped = False
        self._changed = threading.Condition()
        self._threads = [threading.Thread(target=self._send, daemon=True) for _ in range(connections)]

    def start(self):
        for thread in self._threads:
            thread.start()
        return self

    def stop(self):
        """End every client after its request; returns the failures."""
        self._is_stopped = True
        for thread in self._threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive(), "a client got no answer"
        return self.failures

    def wait_for(self, count):
        """Wait until that many more requests were answered."""
        target = self.answers + count
        self._wait(lambda: self.answers >= target, f"{count} more answers")

    def wait_until_seen(self, body):
        """Wait until a server's answer comes after this call."""
        before = self.seen.get(body, 0)
        self._wait(lambda: self.seen.get(body, 0) > before, f"an answer of {body}")

    def _wait(self, condition, what):
        with self._changed:
            assert self._changed.wait_for(lambda: condition() or self.failures, PATIENCE_S), f"{what}: {self.seen}"
        assert not self.failures, self.failures

    def _send(self):
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        while not self._is_stopped and self.answers < self.LIMIT:
            try:
                connection.request("GET", "/", headers={"Host": self._host})
                response = connection.getresponse()
                self._record(response.status, response.read().decode())
            except (OSError, http.client.HTTPException) as error:
                self._record(0, repr(error))
                break
        connection.close()

    def _record(self, status, body):
        with self._changed:
            self.answers += 1
            self.seen[body] = self.seen.get(body, 0) + 1
            if status != 200:
                self.failures.append((status, body))
            self._changed.notify_all()


@pytest.fixture
def start_load():
    """Start clients on a port of the proxy, for one host."""
    loads = []

    def start_clients(port, host, **options):
        load = Load(port, host, **options).start()
        load.wait_for(1)
        loads.append(load)
        return load

    yield start_clients
    for load in loads:
        load.stop()


@pytest.fixture
def build_service():
    """Build the objects of a service as dicts: the Service, and one EndpointSlice for each server's port."""

    def build(name, *ports, namespace="test", annotations=None):
        metadata = {"name": name, "namespace": namespace, "annotations": annotations or {}}
        service = {"ports": [{"name": "web", "port": 80, "targetPort": 8080}]}
        slices = [
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {
                    "name": f"{name}-{number}",
                    "namespace": namespace,
                    "labels": {"kubernetes.io/service-name": name},
                },
                "addressType": "IPv4",
                "ports": [{"name": "web", "port": port, "protocol": "TCP"}],
                "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": True}}],
            }
            for number, port in enumerate(ports)
        ]
        return [{"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": service}, *slices]

    return build


@pytest.fixture
def manifests(tmp_path):
    """Write manifests into a folder, each renamed into place as a whole."""
    folder = tmp_path / "manifests"
    folder.mkdir()

    class Manifests:
        path = folder

        def write(self, name, content):
            """Write text as it is, or objects as a JSON list."""
            if not isinstance(content, str):
                content = json.dumps({"apiVersion": "v1", "kind": "List", "items": content})
            fresh = tmp_path / "fresh"
            fresh.write_text(content)
            fresh.rename(folder / name)
            return folder / name

    return Manifests()


@pytest.fixture
def program():
    """Find a foreign program, or skip the test and say why."""

    def find(name):
        path = shutil.which(name)
        if path is None:
            pytest.skip(f"{name} is not installed")
        return path

    return find
