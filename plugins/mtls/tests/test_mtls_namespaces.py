"""Nodes and pods in network namespaces: what can be read between the nodes, and what a wrong node gets."""

import contextlib
import socket
import ssl
import threading

import pytest
from maesh_mtls.proxy.contexts import build_contexts
from msgspec import structs

from .certificates import DAY, make_credentials, make_leaf, make_signer, write_signer
from .three_nodes import TUNNEL_PORT

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
KINDS = ("line", "header", "body", "answer", "answer-header", "stream")
IDENTITY = "spiffe://cluster.local/maesh/node/{}"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
SETTINGS = bytes([4, 0, 0, 0, 0, 0])
"""The type, the flags and the stream of the frame that a node sends first."""
MARKERS = {kind: f"unique-{kind}-marker-of-this-test" for kind in KINDS}


def find_markers(capture):
    """Find the kinds of markers that can be read between the nodes."""
    return {kind for kind, marker in MARKERS.items() if capture.find(marker.encode())}


def send_markers(mesh, client, count):
    """Send so many requests with markers in every part, and as many TCP connections; returns who has answered."""
    answered = set()
    for _ in range(count):
        answer = mesh.get(
            client,
            f"/{MARKERS['line']}",
            method="POST",
            headers={"X-Marker": MARKERS["header"]},
            body=MARKERS["body"].encode() * 1000,
        )
        assert answer.status == 200, answer
        assert answer.headers["X-Answer"] == MARKERS["answer-header"]
        assert MARKERS["answer"] in answer.text
        answered.add(answer.text[-1])
        with mesh.connect(client) as sock, sock.makefile("rb") as file:
            sock.sendall(f"GET /{MARKERS['stream']} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            assert MARKERS["answer"].encode() in file.read()
    return answered


@pytest.mark.parametrize("mode", ["strict", "permissive", "off"])
def test_nothing_that_is_sent_can_be_read_between_the_nodes_unless_encryption_is_off(mesh, network, mode):
    mesh.encryption = mode
    client = mesh.add_client("a")
    for node in ("b", "c"):
        _, upstream = mesh.add_server(node, f"{MARKERS['answer']} of {node}")
        upstream.headers = {"X-Answer": MARKERS["answer-header"]}
    mesh.start()
    with network.capture() as capture:
        assert send_markers(mesh, client, 6) == {"b", "c"}
    readable = find_markers(capture)
    between = {flow for flow in capture.read_flows() if flow.source == mesh.nodes["a"].address}
    ports = {flow.target_port for flow in between if flow.target in (mesh.nodes["b"].address, mesh.nodes["c"].address)}
    if mode == "off":  # what the other modes do not show could have been seen
        assert readable == MARKERS.keys()
        assert not ports
    else:
        assert readable == set()
        assert ports == {TUNNEL_PORT}
        assert sum(map(len, capture.read_flows().values())) > 6 * 1000 * len(MARKERS["body"])
        assert mesh.read_metric("a", 'maesh_transport_connections_total{path="clear".*}') == 0


def test_a_proxy_without_the_plugin_gets_nothing_in_clear_of_strict_services(mesh, network):
    client = mesh.add_client("a")
    _, upstream = mesh.add_server("c")
    mesh.start(without_plugin="c")
    with network.capture() as capture:
        answer = mesh.get(client, f"/{MARKERS['line']}")
    assert (answer.status, answer.headers["X-Maesh-Reason"]) == (
        503,
        "encryption is required: the server's node c has no tunnel",
    )
    assert upstream.count == 0
    assert find_markers(capture) == set()
    mesh.encryption = "permissive"
    mesh.write()
    mesh.wait_until_applied("a", "c")
    with network.capture() as capture:
        assert mesh.get(client, f"/{MARKERS['line']}").text == "c"
    assert find_markers(capture) == {"line"}
    clear = 'maesh_transport_connections_total{path="clear",reason="not offered".*}'
    assert mesh.read_metric("a", clear) == 1


WRONG = {
    "another authority": lambda signer: make_leaf(make_signer(), [IDENTITY.format("c")]),
    "expired": lambda signer: make_leaf(signer, [IDENTITY.format("c")], starts=-2 * DAY, ends=-DAY / 24),
    "not valid yet": lambda signer: make_leaf(signer, [IDENTITY.format("c")], starts=DAY / 24, ends=DAY),
    "an unknown node": lambda signer: make_leaf(signer, [IDENTITY.format("d")]),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_node_with_a_wrong_certificate_gets_no_byte_and_opens_nothing(mesh, network, kind):
    signer = make_signer()
    (mesh.folder / "ca").mkdir()
    write_signer(mesh.folder / "ca", signer)
    client = mesh.add_client("a")
    _, upstream = mesh.add_server("c")
    mesh.start(absent="c")
    node, wrong = mesh.nodes["c"], structs.replace(WRONG[kind](signer), bundle=signer.bundle)
    assert open_tunnel(node, mesh.nodes["a"].address, make_credentials(signer, "c"))[:9].endswith(SETTINGS)
    assert open_tunnel(node, mesh.nodes["a"].address, wrong) == b""
    reason = "identity" if kind == "an unknown node" else "certificate"
    assert mesh.read_metric("a", f'maesh_tunnel_failures_total{{reason="{reason}",role="incoming"}}') == 1
    with network.capture() as capture, contextlib.closing(FalseReceiver(node, wrong)) as false:
        answer = mesh.get(client, f"/{MARKERS['line']}", headers={"X-Marker": MARKERS["header"]})
        assert answer.status == 503
        assert answer.headers["X-Maesh-Reason"].startswith("encryption is required: no tunnel to node c")
        assert false.count == 1
    assert false.received == b""
    assert find_markers(capture) == set()
    assert upstream.count == 0


def test_a_certificate_that_is_revoked_opens_nothing(mesh):
    signer = make_signer()
    (mesh.folder / "ca").mkdir()
    write_signer(mesh.folder / "ca", signer)
    mesh.start(absent="c")
    stolen = make_credentials(signer, "c")
    assert open_tunnel(mesh.nodes["c"], mesh.nodes["a"].address, stolen)[:9].endswith(SETTINGS)
    mesh.stop("controller")
    mesh.start_controller("--set", f"mtls.revoked=c/{stolen.serial}")
    mesh.commands["a"].wait_until(
        lambda: open_tunnel(mesh.nodes["c"], mesh.nodes["a"].address, stolen) == b"", "the revocation"
    )
    fresh = make_credentials(signer, "c")
    assert open_tunnel(mesh.nodes["c"], mesh.nodes["a"].address, fresh)[:9].endswith(SETTINGS)


def open_tunnel(node, address, credentials):
    """Connect to a node as another one does; returns the first bytes that it sends, none if it refuses."""
    context = build_contexts(credentials).client
    try:
        with context.wrap_socket(node.connect(address, TUNNEL_PORT)) as tls:
            tls.sendall(PREFACE)
            return tls.recv(65536)
    except (ssl.SSLError, OSError):
        return b""


class FalseReceiver:
    """Accepts connections for tunnels on a node, with credentials of the test's choice."""

    def __init__(self, node, credentials):
        self.received, self.count = b"", 0
        self._context = build_contexts(credentials).server
        self._listening = node.call(lambda: socket.create_server((node.address, TUNNEL_PORT)))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self):
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            self.count += 1
            client.settimeout(60)
            try:
                with self._context.wrap_socket(client, server_side=True) as tls:
                    self.received += tls.recv(65536)
            except (ssl.SSLError, OSError):
                client.close()

    def close(self):
        self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join(60)
        self._listening.close()
