"""Nodes and pods in network namespaces: rotation, changes of the mode, a lost controller, and audited access."""

import contextlib
import shutil
import time
from datetime import UTC, datetime, timedelta

import pytest
from maesh_mtls.controller.authority import ca
from maesh_mtls.controller.authority.folder_store import FolderStore

from maesh_testing import build_pod, wait_until

from .three_nodes import NODES, Load

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]
CLEAR, ENCRYPTED = (f'maesh_transport_connections_total{{path="{path}".*}}' for path in ("clear", "encrypted"))
MARKER = "unique-marker-of-this-test"
LEAST_S = 15.0
STARTS = 4
"""An authority lives for as long as so many starts, and a little longer, so that a busy machine has time for one."""


def test_the_authority_of_three_nodes_is_rotated_under_load_without_a_failed_request(mesh):
    client = mesh.add_client("a")
    for node in ("b", "c"):
        mesh.add_server(node)
    mesh.flags = ("--set", "mtls.rotation-step=1s")
    mesh.start()
    serials = {node: mesh.read_certificate(node)["serial"] for node in NODES}
    with contextlib.closing(Load(mesh, client)) as load:
        load.wait_for({"b", "c"})
        assert "signs" in mesh.run_maesh("rotate", "--wait").splitlines()[-1]
        load.wait_for({"b", "c"})
    assert load.failures == []
    assert all(mesh.read_certificate(node)["serial"] != serials[node] for node in NODES)
    assert mesh.read_metric("a", CLEAR) == 0


def test_encryption_comes_and_goes_under_load_without_a_failed_request(mesh, network):
    client = mesh.add_client("a")
    for node in ("b", "c"):
        _, upstream = mesh.add_server(node)
        upstream.headers = {"X-Marker": MARKER}
    mesh.encryption = "off"
    mesh.start()
    seen = {}
    with contextlib.closing(Load(mesh, client)) as load:
        for mode in ("off", "permissive", "strict", "off"):
            mesh.encryption = mode
            mesh.write()
            mesh.wait_until_applied()
            load.wait_for({"b", "c"})
            with network.capture() as capture:
                load.wait_for({"b", "c"})
            seen.setdefault(mode, bool(capture.find(MARKER.encode())))
    assert load.failures == []
    assert seen == {"off": True, "permissive": False, "strict": False}
    assert mesh.read_metric("a", ENCRYPTED) > 0


def start_with_authority_that_ends(mesh, monkeypatch):
    """Start all twice: the first start shows how long one needs here. Returns the life of the authority in seconds."""
    began = time.monotonic()
    mesh.start()
    life_s = LEAST_S + STARTS * (time.monotonic() - began)
    for name in (*NODES, "controller"):
        mesh.stop(name)
    monkeypatch.setattr(ca, "LIFETIME", timedelta(seconds=life_s))
    shutil.rmtree(mesh.folder / "ca")
    FolderStore(mesh.folder / "ca").write_now(ca.make_authority(datetime.now(UTC)), "", version="")
    mesh.start()
    return life_s


def test_nodes_whose_controller_is_away_for_longer_than_a_certificate_lives_send_nothing(mesh, network, monkeypatch):
    client = mesh.add_client("a")
    _, upstream = mesh.add_server("b")
    life_s = start_with_authority_that_ends(mesh, monkeypatch)
    assert mesh.get(client).text == "b"
    mesh.kill("controller")
    wait_until(lambda: mesh.get(client).status == 503, "a refusal", life_s + 60)
    count = upstream.count
    with network.capture() as capture:
        answer = mesh.get(client, f"/{MARKER}", headers={"X-Marker": MARKER})
    assert (answer.status, answer.headers["X-Maesh-Reason"]) == (
        503,
        "encryption is required: this node has no valid certificate",
    )
    assert (capture.find(MARKER.encode()), upstream.count) == ([], count)
    assert mesh.read_metric("a", "maesh_tunnels") == mesh.read_metric("a", CLEAR) == 0


def build_access(mesh, client, server):
    """Build the pods, and a target that allows the client's account to GET /open."""
    pods = []
    for name, pod, account, node in (
        ("client", client, "web", "a"),
        (f"server-{mesh.servers[server]}", server, "server", mesh.servers[server]),
    ):
        described = build_pod(name, pod.address, account, namespace="shop")
        described["spec"]["nodeName"] = node
        pods.append(described)
    owner = {"kind": "ServiceAccount", "namespace": "shop"}
    group = {
        "apiVersion": "specs.smi-spec.io/v1alpha3",
        "kind": "HTTPRouteGroup",
        "metadata": {"name": "routes", "namespace": "shop"},
        "spec": {"matches": [{"name": "open", "pathRegex": "/open", "methods": ["GET"]}]},
    }
    target = {
        "apiVersion": "access.smi-spec.io/v1alpha2",
        "kind": "TrafficTarget",
        "metadata": {"name": "target", "namespace": "shop"},
        "spec": {
            "destination": {**owner, "name": "server"},
            "sources": [{**owner, "name": "web"}],
            "rules": [{"kind": "HTTPRouteGroup", "name": "routes", "matches": ["open"]}],
        },
    }
    return [*pods, group, target]


def read_denials(mesh, count):
    """Return the report of denials once it is complete and has as many; the workers report them now and then."""
    report = mesh.ask_controller("/api/acl/denials")
    is_whole = report["complete"] and sum(each["count"] for each in report["denials"]) == count
    return report if is_whole else None


def test_what_audit_mode_lets_pass_is_encrypted_and_reported_once_by_the_node_that_sends(mesh, network):
    client, stranger = mesh.add_client("a"), mesh.add_client("a")
    server, upstream = mesh.add_server("b")
    mesh.others = build_access(mesh, client, server)
    mesh.flags = ("--acl", "--set", "acl.mode=audit")
    mesh.proxy_flags = ("--admin-host", "0.0.0.0", "--admin-clear")
    mesh.start()
    with network.capture() as capture:
        for path in ("/open", "/secret", "/secret"):
            assert mesh.get(client, path, headers={"X-Marker": MARKER}).text == "b"
        assert mesh.get(stranger, headers={"X-Marker": MARKER}).text == "b"
        with mesh.connect(client) as sock, sock.makefile("rb") as file:
            sock.sendall(f"GET /{MARKER} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            assert file.read().endswith(b"b")
    assert upstream.count == 5
    assert capture.find(MARKER.encode()) == []
    assert mesh.read_metric("a", CLEAR) == 0
    assert mesh.read_metric("a", "maesh_acl_would_deny_total") == 4
    assert mesh.read_metric("b", "maesh_acl_would_deny_total") == 0
    report = mesh.commands["controller"].wait_until(lambda: read_denials(mesh, 4), "a complete report of all denials")
    assert {each["mode"] for each in report["denials"]} == {"audit"}
    accounts = {(each["client"] or {}).get("serviceAccount", "") for each in report["denials"]}
    assert "web" in accounts
    mesh.flags = ("--acl",)
    mesh.stop("controller")
    mesh.start_controller()
    mesh.commands["a"].wait_until(lambda: mesh.get(client, "/secret").status == 403, "an enforced service")
    assert mesh.get(client, "/open").text == "b"
