"""A rotation of the authority in a Secret, by two controllers, under load; the leader is killed in the middle."""

import base64
import contextlib
import json
import signal
from datetime import UTC, datetime

import pytest
from maesh_mtls.controller.authority.ca import make_authority

from .clusters import NAMESPACE
from .commands import read_report, run_maesh
from .two_nodes import ADDRESSES, Load

pytestmark = pytest.mark.integration
STEP = ("--set", "mtls.rotation-step=2s")


@pytest.fixture
def nodes(cluster_nodes):
    return cluster_nodes


def build_controller(mesh, api):
    """Build the EndpointSlice of a controller, by which the other one finds it."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"maesh-{api}",
            "namespace": NAMESPACE,
            "labels": {"kubernetes.io/service-name": "maesh-controller"},
        },
        "addressType": "IPv4",
        "ports": [{"port": mesh.ports[api], "protocol": "TCP"}],
        "endpoints": [{"addresses": ["127.0.0.1"], "targetRef": {"kind": "Pod", "name": f"maesh-{api}"}}],
    }


def start_all(mesh):
    """Start two controllers, and a proxy of each."""
    mesh.write("strict")
    for api in ("api", "other-api"):
        mesh.server.apply(build_controller(mesh, api))
        mesh.start_controller(*STEP, api=api)
    other = ("--endpoint", f"http://127.0.0.1:{mesh.ports['other-api']}")
    mesh.start_proxy("sender", token=mesh.issue("sender"))
    mesh.start_proxy("receiver", *other, token=mesh.issue("receiver"))
    for node in ADDRESSES:
        mesh.wait_for_certificate(node)
    mesh.wait_for_mode("strict")
    mesh.commands["sender"].wait_until(lambda: mesh.get().status == 200, "an answer")


def find_leader(mesh):
    for api in ("api", "other-api"):
        if json.loads(mesh._ask_admin(api, "/api/status/controller").text or "{}").get("leads"):
            return api
    return None


def wait_for_other(mesh, before, load):
    """Wait until another authority signs, and only it is trusted."""
    load.wait_for_more()
    mesh.commands["sender"].wait_until(
        lambda: (
            (report := read_report(mesh))["signer"] != before["signer"] and report["rotation"]["phase"] == "settled"
        ),
        "the new authority",
    )
    load.wait_for_more()


def test_a_rotation_survives_the_end_of_its_leader_without_a_failed_request(nodes, relay):
    start_all(nodes)
    before = read_report(nodes)
    assert len(before["nodes"]) >= 2, "each controller knows the proxies of the other"
    with contextlib.closing(Load(nodes)) as load:
        run_maesh(nodes, "rotate")
        leader = nodes.commands["sender"].wait_until(lambda: find_leader(nodes), "a leader")
        nodes.commands["sender"].wait_until(lambda: read_report(nodes)["rotation"]["phase"] == "renew", "a phase")
        nodes.commands[f"controller-{leader}"].stop(signal.SIGKILL)
        nodes.start_controller(*STEP, api=leader)
        wait_for_other(nodes, before, load)
    assert load.reasons == []
    bundle = nodes.server.get("configmaps", "maesh-trust", NAMESPACE)["data"]["bundle.pem"]
    secret = nodes.server.get("secrets", "maesh-ca", NAMESPACE)["data"]
    assert base64.b64decode(secret["trusted.pem"]).decode() == bundle == base64.b64decode(secret["tls.crt"]).decode()


def test_a_secret_that_is_replaced_is_rotated_without_a_failed_request(nodes, relay):
    start_all(nodes)
    before = read_report(nodes)
    with contextlib.closing(Load(nodes)) as load:
        secret = nodes.server.get("secrets", "maesh-ca", NAMESPACE)
        made = make_authority(datetime.now(UTC))
        data = {name: base64.b64encode(content).decode() for name, content in made.items()}
        nodes.server.apply({**secret, "data": {**secret["data"], **data}})
        wait_for_other(nodes, before, load)
    assert load.reasons == []
