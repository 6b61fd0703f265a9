"""Nodes and pods as network namespaces of this machine, on a bridge of their own. Linux, as root, with iproute2.

Nothing else can be reached from a `Network`, and nothing else reaches it. A namespace has processes of the test, which
`wrap` starts there, and sockets and servers of the test itself, which `call` makes there. `close` removes everything.
"""

import contextlib
import ctypes
import http.client
import itertools
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

import pytest

from maesh_testing.capture import Capture
from maesh_testing.http_client import Answer
from maesh_testing.packet_loss import lose_packets

NAMES = Path("/run/netns")
REQUIRE_VARIABLE: Final = "REQUIRE_NAMESPACES"
"""The variable with which a test that cannot make namespaces fails. It has no prefix of Maesh's settings."""
_PREFIX = "maesh-test"
_CLONE_NEWNET = 0x40000000
_GATEWAY = "169.254.1.1"
"""The address of the node's end of each pod's cable; it is the same for all, so pods need no subnet."""
_LIBC = ctypes.CDLL(None, use_errno=True)
_numbers = itertools.count()

_ResultT = TypeVar("_ResultT")


def find_obstacle() -> str:
    """Find out why this process cannot make network namespaces; empty if it can."""
    if not hasattr(socket, "AF_PACKET"):
        return "network namespaces are a feature of Linux"
    if os.geteuid() != 0:
        return "only root can make network namespaces"
    if shutil.which("ip") is None:
        return "the program `ip` (iproute2) is not installed"
    name = f"{_PREFIX}-{os.getpid()}-probe"
    made = _run_ip("netns", "add", name, check=False)
    if made.returncode:
        return f"no network namespace can be made: {made.stderr.strip()}"
    _run_ip("netns", "delete", name)
    return ""


def require_namespaces() -> None:
    """Skip the test if this process cannot make network namespaces, or let it fail if the variable is set."""
    if obstacle := find_obstacle():
        if os.environ.get(REQUIRE_VARIABLE):
            pytest.fail(obstacle)
        pytest.skip(obstacle)


def _run_ip(*arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(["ip", *map(str, arguments)], capture_output=True, text=True, check=False)  # noqa: S603, S607
    if check and done.returncode:
        raise OSError(f"ip {' '.join(map(str, arguments))}: {done.stderr.strip()}")
    return done


class Namespace:
    """A network namespace. A thread of its own makes the sockets in it, so that no other thread has to enter it."""

    def __init__(self, role: str) -> None:
        self.role = role
        self.name = f"{_PREFIX}-{os.getpid()}-{next(_numbers)}-{role}"
        _run_ip("netns", "add", self.name)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=self.name, initializer=self._enter)
        self.run_ip("link", "set", "lo", "up")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    def run_ip(self, *arguments: object) -> None:
        """Run `ip ARGUMENTS` in the namespace. Raises OSError with what it printed."""
        _run_ip("-n", self.name, *arguments)

    def wrap(self, program: Sequence[str]) -> tuple[str, ...]:
        """Return the command that runs a program in the namespace; its process id is that of the program."""
        return ("ip", "netns", "exec", self.name, *program)

    def call(self, work: Callable[[], _ResultT]) -> _ResultT:
        """Call a function in a thread of the namespace: sockets that it makes, and threads, belong there."""
        return self._thread.submit(work).result()

    def connect(self, address: str, port: int, *, timeout_s: float = 60) -> socket.socket:
        """Connect from the namespace."""
        return self.call(lambda: socket.create_connection((address, port), timeout_s))

    def get(
        self,
        address: str,
        port: int,
        path: str = "/",
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Answer:
        """Send a request from the namespace, on a connection of its own; status 0 if no complete response comes."""
        connection = http.client.HTTPConnection(address, port, timeout=60)
        try:
            connection.sock = self.connect(address, port)
            connection.request(method, path, body or None, dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())  # type: ignore[arg-type]
        except (OSError, http.client.HTTPException) as error:
            return Answer(0, {}, repr(error).encode())
        finally:
            connection.close()

    def close(self) -> None:
        """Remove the namespace; its interfaces go with it once no process and no socket is left in it."""
        self._thread.shutdown()
        _run_ip("netns", "delete", self.name, check=False)

    def _enter(self) -> None:
        with (NAMES / self.name).open() as file:
            if _LIBC.setns(file.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), f"cannot enter {self.name}")


class Pod(Namespace):
    """A pod with an address of its own, on a node."""

    def __init__(self, number: int) -> None:
        super().__init__(f"pod{number}")
        self.address = f"10.98.0.{number}"
        self.cable = f"pod{number}"
        self.node: Node | None = None


class Node(Namespace):
    """A node: `address` is the one in the network of all nodes."""

    def __init__(self, name: str, number: int) -> None:
        super().__init__(name)
        self.node_name, self.address, self.port = name, f"10.99.0.{number}", f"port{number}"
        self.call(lambda: Path("/proc/sys/net/ipv4/ip_forward").write_text("1"))


class Network:
    """Nodes on a bridge, and their pods. Every packet between two nodes passes the bridge."""

    def __init__(self) -> None:
        _remove_leftovers()
        self.nodes: dict[str, Node] = {}
        self._pods: list[Pod] = []
        self._stack = contextlib.ExitStack()
        self.switch = Namespace("switch")
        self._stack.callback(self.switch.close)
        self.switch.run_ip("link", "add", "bridge", "type", "bridge")
        self.switch.run_ip("link", "set", "bridge", "up")

    def __repr__(self) -> str:
        return f"<Network {' '.join(self.nodes)}>"

    def add_node(self, name: str) -> Node:
        """Add a machine on the bridge."""
        node = Node(name, len(self.nodes) + 1)
        self._stack.callback(node.close)
        self.nodes[name] = node
        self.switch.run_ip("link", "add", node.port, "type", "veth", "peer", "name", "eth0", "netns", node.name)
        self.switch.run_ip("link", "set", node.port, "master", "bridge", "up")
        node.run_ip("address", "add", f"{node.address}/24", "dev", "eth0")
        node.run_ip("link", "set", "eth0", "up")
        for pod in self._pods:
            self._route(node, pod)
        return node

    def add_pod(self, node: Node) -> Pod:
        """Add a pod on a node."""
        pod = Pod(len(self._pods) + 1)
        self._stack.callback(pod.close)
        self._pods.append(pod)
        self.place(pod, node)
        return pod

    def place(self, pod: Pod, node: Node) -> None:
        """Connect a pod to a node, and to no other one any more: a pod that moves keeps its address."""
        if pod.node is not None:
            pod.node.run_ip("link", "delete", pod.cable)
        pod.node = node
        node.run_ip("link", "add", pod.cable, "type", "veth", "peer", "name", "eth0", "netns", pod.name)
        node.run_ip("address", "add", f"{_GATEWAY}/32", "dev", pod.cable)
        node.run_ip("link", "set", pod.cable, "up")
        pod.run_ip("address", "add", f"{pod.address}/32", "dev", "eth0")
        pod.run_ip("link", "set", "eth0", "up")
        pod.run_ip("route", "add", "default", "via", _GATEWAY, "dev", "eth0", "onlink")
        for each in self.nodes.values():
            self._route(each, pod)

    def capture(self) -> Capture:
        """Record what passes the bridge from now on."""
        return Capture(self.switch.call(Capture.open_socket))

    def lose(self, share: float) -> None:
        """Lose this share of all packets to each node. Raises OSError where the kernel cannot do that."""
        for node in self.nodes.values():
            for namespace, interface in ((node, "eth0"), (self.switch, node.port)):
                namespace.run_ip("link", "set", interface, "gso_max_segs", "1")  # packets of a real network's size
            lose_packets(self.switch.name, node.port, share)

    def isolate(self, *nodes: Node) -> None:
        """Drop every packet between two of these nodes, and no others: a partition. `heal` ends it."""
        for node in nodes:
            self.switch.run_ip("link", "set", node.port, "type", "bridge_slave", "isolated", "on")

    def heal(self) -> None:
        """Let all nodes reach each other again."""
        for node in self.nodes.values():
            self.switch.run_ip("link", "set", node.port, "type", "bridge_slave", "isolated", "off")

    def close(self) -> None:
        """Remove all namespaces. Processes in them must have ended."""
        self._stack.close()

    @staticmethod
    def _route(node: Node, pod: Pod) -> None:
        if pod.node is not None:
            way = ("dev", pod.cable) if node is pod.node else ("via", pod.node.address)
            node.run_ip("route", "replace", f"{pod.address}/32", *way)


@contextlib.contextmanager
def open_network() -> Iterator[Network]:
    """Make an empty network, and remove it in the end."""
    network = Network()
    try:
        yield network
    finally:
        network.close()


def _remove_leftovers() -> None:
    """Remove the namespaces of test processes that were killed."""
    for path in NAMES.glob(f"{_PREFIX}-*"):
        pid = path.name.removeprefix(f"{_PREFIX}-").partition("-")[0]
        if pid.isdigit() and not Path("/proc", pid).exists():
            _run_ip("netns", "delete", path.name, check=False)
