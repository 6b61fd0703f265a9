"""The fixtures of `maesh_testing`, and what only these tests need: the commands one by one, and load.

What a test starts ends with it, by process id; a process that does not end, or leaves a child behind, fails the test.
"""

import http.client
import json
import shutil
import threading
import time

import pytest

import maesh_testing as testing

PATIENCE_S = 60.0


@pytest.fixture
def wait_until():
    return testing.wait_until


@pytest.fixture
def free_port():
    """Return ports that nobody listens on."""
    return testing.find_free_port


@pytest.fixture
def get():
    """Send one request on a connection of its own."""
    return testing.send_request


@pytest.fixture
def environment(tmp_path):
    """Return the environment of a user who has set nothing."""
    return testing.build_environment(tmp_path)


class Mesh:
    """`maesh up` that is ready."""

    def __init__(self, command, ports, services):
        self.command, self.services = command, services
        self.http_port, self.api_port, self.admin_port = ports


@pytest.fixture
def up(start_maesh, free_port):
    """Start `maesh up PATH ... --json` on free ports and wait until it is ready."""

    def start_up(*arguments, env=None):
        http, api, admin = ports = [free_port() for _ in range(3)]
        options = ("--http-port", http, "--api-port", api, "--admin-port", admin, "--json")
        command = start_maesh("up", *options, *arguments, env=env)
        command.wait_until(lambda: "\n" in command.stdout, "one line on standard output")
        return Mesh(command, ports, json.loads(command.stdout))

    return start_up


@pytest.fixture
def start_controller(start_maesh, free_port, get):
    """Start `maesh controller PATH ...` and wait until it is ready; returns the command and its API's port."""

    def start_controller(*arguments, port=None, env=None):
        port = port or free_port()
        command = start_maesh("controller", "--api-host", "127.0.0.1", "--api-port", port, *arguments, env=env)
        command.wait_until(lambda: get(port, path="/api/status/readiness").status == 200, "readiness")
        return command, port

    return start_controller


@pytest.fixture
def start_proxy(start_maesh, free_port, get):
    """Start `maesh proxy` and wait until it is ready; returns the command and its admin port."""

    def start_proxy(api_port, *arguments, env=None):
        admin_port = free_port()
        command = start_maesh(
            *("proxy", "--endpoint", f"http://127.0.0.1:{api_port}", "--bind", "127.0.0.1"),
            *("--admin-host", "127.0.0.1", "--admin-port", admin_port),
            *arguments,
            env=env,
        )
        command.wait_until(lambda: get(admin_port, path="/ready").status == 200, "readiness")
        return command, admin_port

    return start_proxy


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

    def wait_for_seconds(self, seconds):
        """Go on for so long."""
        time.sleep(seconds)

    def wait_until_seen(self, body):
        """Wait until a server's answer comes after this call."""
        before = self.seen.get(body, 0)
        self._wait(lambda: self.seen.get(body, 0) > before, f"an answer of {body}")

    def _wait(self, condition, what):
        with self._changed:
            assert self._changed.wait_for(lambda: condition() or self.failures, PATIENCE_S), f"{what}: {self.seen}"
        assert not self.failures, self.failures

    def _send(self):
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
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
    """Build the objects of a service with a server on each of these ports."""

    def build(name, *ports, **options):
        return testing.build_service(name, [("127.0.0.1", port) for port in ports], **options)

    return build


@pytest.fixture
def program():
    """Find a foreign program, or skip the test and say why."""

    def find(name):
        path = shutil.which(name)
        if path is None:
            pytest.skip(f"{name} is not installed")
        return path

    return find


@pytest.fixture
def start_beside(start_controller, free_port):
    """Start `maesh controller` for a cluster; return the command, its API's port, and the first HTTP entrypoint."""

    def start(kubeconfig, *arguments, http_port=None):
        http_port = http_port or free_port()
        options = ("--kubeconfig", kubeconfig, "--http-port", http_port, "--log-level", "info")
        command, api_port = start_controller(*options, *arguments)
        return command, api_port, http_port

    return start


@pytest.fixture
def build_user_service():
    """Build a Service as a user of a cluster writes it, whose EndpointSlices the test writes itself."""

    def build(name, *, namespace=None, traffic_type="http"):
        annotations = {"maesh.containo.us/traffic-type": traffic_type}
        metadata = {"name": name, "annotations": annotations, **({"namespace": namespace} if namespace else {})}
        spec = {"ports": [{"name": "web", "port": 80, "protocol": "TCP", "targetPort": "web"}]}
        return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}

    return build


@pytest.fixture
def build_slice():
    """Build an EndpointSlice with one endpoint."""

    def build(name, address, port, *, service="whoami", namespace=None, is_terminating=False):
        conditions = {"ready": not is_terminating, "serving": True, "terminating": is_terminating}
        labels = {"kubernetes.io/service-name": service}
        return {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": name, "labels": labels, **({"namespace": namespace} if namespace else {})},
            "addressType": "IPv4",
            "ports": [{"name": "web", "port": port, "protocol": "TCP"}],
            "endpoints": [{"addresses": [address], "conditions": conditions}],
        }

    return build
