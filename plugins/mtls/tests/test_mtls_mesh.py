"""Two proxies as processes, with certificates of a controller: what passes between them is encrypted, or refused."""

import contextlib
import json
import socket
import ssl
import threading

import pytest
from maesh_mtls.proxy.contexts import build_contexts

from .certificates import make_credentials, make_signer, write_signer
from .two_nodes import MARKER, RECEIVER, RELAY, REQUIRED, Load, start_both

pytestmark = pytest.mark.integration


def test_what_passes_between_nodes_is_encrypted(nodes, relay):
    nodes.write("strict")
    start_both(nodes)
    answer = nodes.get(f"/{MARKER}", headers={"X-Marker": MARKER})
    assert (answer.status, answer.text) == (200, MARKER)
    with nodes.connect() as client:
        client.sendall(f"GET /{MARKER} HTTP/1.1\r\nHost: {MARKER}\r\nConnection: close\r\n\r\n".encode())
        with client.makefile("rb") as file:
            assert file.read().endswith(MARKER.encode())
    assert [request.path for request in nodes.upstream.requests] == [f"/{MARKER}"] * 2
    assert relay.recorded[:2] == b"\x16\x03", "a TLS handshake"
    assert len(relay.recorded) > 2000
    assert MARKER.encode() not in relay.recorded
    assert nodes.read_metric("sender", "maesh_tunnels") == 1
    assert nodes.read_metric("sender", 'maesh_transport_connections_total{path="clear".*}') == 0


def test_a_local_server_is_reached_without_a_tunnel(nodes, relay):
    nodes.write("strict")
    start_both(nodes)
    assert nodes.get(address=RECEIVER).text == MARKER
    assert relay.recorded == b""


def test_a_node_without_a_valid_token_sends_nothing_that_must_be_encrypted(nodes, relay):
    nodes.write("strict")
    nodes.start_controller()
    nodes.start_proxy("receiver")
    nodes.wait_for_certificate("receiver")
    nodes.start_proxy("sender", token="token-of-the-receiver")
    report = nodes.wait_for_certificate("sender", "none")
    assert "the token belongs to another node" in report["problem"]
    answer = nodes.get()
    assert (answer.status, answer.headers["X-Maesh-Reason"]) == (503, f"{REQUIRED}this node has no valid certificate")
    assert nodes.upstream.count == 0
    nodes.write("permissive")
    nodes.wait_for_mode("permissive")
    assert nodes.get().text == MARKER
    assert relay.recorded == b""


class FalseReceiver:
    """Does what a node does up to the first bytes of the tunnel, with credentials of the test's choice."""

    def __init__(self, port, credentials):
        self.received = b""
        self._context = build_contexts(credentials).server
        self._listening = socket.create_server((RELAY, port))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self):
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
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


@pytest.mark.parametrize("is_of_another_authority", [True, False], ids=["another authority", "another node"])
def test_a_false_receiver_gets_no_request(nodes, is_of_another_authority):
    signer = make_signer()
    (nodes.folder / "ca").mkdir()
    write_signer(nodes.folder / "ca", signer)
    pair = (make_signer(), "receiver") if is_of_another_authority else (signer, "other")
    false = make_credentials(*pair)
    nodes.write("strict")
    with contextlib.closing(FalseReceiver(nodes.ports["tunnel"], false)) as receiver:
        nodes.start_controller()
        nodes.start_proxy("sender")
        nodes.wait_for_certificate("sender")
        answer = nodes.get(f"/{MARKER}", headers={"X-Marker": MARKER})
        assert answer.status == 503
        assert answer.headers["X-Maesh-Reason"].startswith(f"{REQUIRED}no tunnel to node receiver")
        nodes.write("permissive")
        nodes.wait_for_mode("permissive")
        assert nodes.get().text == MARKER, "permissive falls back to clear"
        assert MARKER.encode() not in receiver.received
    assert nodes.upstream.count == 1


def test_modes_are_changed_under_load_without_a_failed_request(nodes, relay):
    nodes.write("off")
    start_both(nodes)
    with contextlib.closing(Load(nodes)) as load:
        for mode in ("permissive", "strict", "permissive", "off", "strict"):
            nodes.write(mode)
            nodes.wait_for_mode(mode)
            load.wait_for_more()
    assert load.reasons == []
    assert nodes.read_metric("sender", 'maesh_transport_connections_total{path="encrypted".*}') > 0


def test_a_receiver_restarts_under_load_without_a_failed_request_of_a_permissive_service(nodes, relay):
    nodes.write("permissive")
    start_both(nodes)
    with contextlib.closing(Load(nodes)) as load:
        load.wait_for_more()
        assert nodes.commands["receiver"].stop() == 0
        load.wait_for_more()
        nodes.start_proxy("receiver")
        nodes.wait_for_certificate("receiver")
        encrypted = 'maesh_transport_connections_total{path="encrypted".*}'
        before = nodes.read_metric("sender", encrypted)
        nodes.commands["sender"].wait_until(
            lambda: nodes.read_metric("sender", encrypted) > before, "encrypted connections"
        )
    assert load.reasons == []


def test_the_controller_may_be_away_while_the_certificate_is_valid(nodes, relay):
    nodes.write("strict")
    start_both(nodes)
    nodes.commands["controller"].stop()
    assert nodes.get().text == MARKER
    assert nodes.wait_for_certificate("sender")["identity"] == "spiffe://cluster.local/maesh/node/sender"


def test_a_controller_without_the_plugin_does_not_make_proxies_send_in_clear(nodes, relay):
    nodes.write("strict")
    start_both(nodes)
    nodes.commands["controller"].stop()
    nodes.start_controller(has_plugin=False)
    nodes.commands["sender"].wait_until(
        lambda: nodes.read_metric("sender", "maesh_proxy_configuration_rejected_total"),
        "a configuration that is rejected",
    )
    assert nodes.get().text == MARKER
    assert nodes.read_metric("sender", 'maesh_transport_connections_total{path="clear".*}') == 0
    assert nodes.read_metric("sender", "maesh_tunnels") == 1


def test_the_status_shows_what_strict_encryption_would_refuse(nodes, run_maesh):
    nodes.write("permissive")
    start_both(nodes)  # nothing listens where the receiver's tunnel should be
    assert nodes.get().text == MARKER
    endpoint = f"http://127.0.0.1:{nodes.ports['api']}"
    shown = run_maesh("status", "--endpoint", endpoint, "--json")
    status = json.loads(shown.stdout)["encryption"]
    (service,) = status["services"]
    assert (service["key"], service["encryption"]) == ("shop/web:80", "permissive")
    assert service["total"]["paths"] == {"clear": 1}
    assert service["total"]["clearReasons"] == {"unreachable": 1}
    assert sum(status["tunnels"]["total"]["failures"].values()) >= 1
    lines = run_maesh("status", "--endpoint", endpoint).stdout.splitlines()
    assert any(line.startswith("shop/web:80 ") and line.endswith("unreachable 1") for line in lines), lines
