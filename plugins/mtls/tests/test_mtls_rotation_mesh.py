"""Rotation and revocation with a controller, two proxies and the commands, under load."""

import contextlib
import signal
from datetime import UTC, datetime

import pytest
from maesh_mtls.controller.authority.ca import make_authority

from .commands import read_report, run_maesh
from .two_nodes import MARKER, REQUIRED, Load, start_both

pytestmark = pytest.mark.integration
STEP = ("--set", "mtls.rotation-step=1s")


def test_the_authority_is_rotated_under_load_without_a_failed_request(nodes, relay):
    nodes.write("strict")
    start_both(nodes, *STEP)
    before = read_report(nodes)
    serials = {each["node"]: each["serial"] for each in before["nodes"]}
    assert sorted(serials) == ["receiver", "sender"]
    assert before["rotation"]["phase"] == "settled"
    with contextlib.closing(Load(nodes)) as load:
        load.wait_for_more()
        printed = run_maesh(nodes, "rotate", "--wait")
        load.wait_for_more()
    assert "a rotation was asked for" in printed
    assert "signs" in printed.splitlines()[-1]
    assert load.reasons == []
    nodes.commands["controller"].wait_until(
        lambda: all(each["trust"] and each["signer"] for each in read_report(nodes)["nodes"]), "the last certificates"
    )
    after = read_report(nodes)
    assert after["signer"] != before["signer"]
    assert len(after["trusted"]) == 1
    assert all(each["serial"] != serials[each["node"]] for each in after["nodes"])
    assert nodes.read_metric("sender", 'maesh_transport_connections_total{path="clear".*}') == 0


def test_an_authority_that_is_replaced_by_hand_is_rotated_under_load_without_a_failed_request(nodes, relay):
    nodes.write("strict")
    start_both(nodes, *STEP)
    before = read_report(nodes)
    with contextlib.closing(Load(nodes)) as load:
        write_other_authority(nodes.folder / "ca")
        nodes.commands["controller"].wait_until(
            lambda: (
                (report := read_report(nodes))["signer"] != before["signer"]
                and report["rotation"]["phase"] == "settled"
            ),
            "the other authority",
        )
        load.wait_for_more()
    assert load.reasons == []


def test_a_controller_that_starts_again_continues_a_rotation(nodes, relay):
    nodes.write("strict")
    start_both(nodes, "--set", "mtls.rotation-step=10m")  # so that the first phase is not over before it is seen
    before = read_report(nodes)
    with contextlib.closing(Load(nodes)) as load:
        run_maesh(nodes, "rotate")
        nodes.commands["controller"].wait_until(
            lambda: read_report(nodes)["rotation"]["phase"] == "spread", "the first phase"
        )
        nodes.commands["controller"].stop(signal.SIGKILL)
        nodes.start_controller(*STEP)
        nodes.commands["controller"].wait_until(
            lambda: (
                (report := read_report(nodes))["signer"] != before["signer"]
                and report["rotation"]["phase"] == "settled"
            ),
            "the new authority",
        )
        load.wait_for_more()
    assert load.reasons == []


def test_a_revoked_node_is_refused_until_that_is_undone(nodes, relay):
    nodes.write("strict")
    start_both(nodes, *STEP)
    assert nodes.get().text == MARKER
    assert run_maesh(nodes, "revoke", "receiver").strip() == "node receiver is revoked"
    nodes.commands["sender"].wait_until(lambda: nodes.get().status == 503, "a refusal")
    assert nodes.get().headers["X-Maesh-Reason"] == f"{REQUIRED}the server's node receiver has no tunnel"
    assert nodes.read_metric("sender", "maesh_tunnels") == 0
    (revoked,) = read_report(nodes)["revoked"]
    assert (revoked["node"], revoked["serial"]) == ("receiver", "")
    assert nodes.commands["receiver"].stop() == 0
    nodes.start_proxy("receiver")
    nodes.commands["receiver"].wait_until(  # the first attempt may come too early after that of the former process
        lambda: "the node is revoked" in nodes.wait_for_certificate("receiver", "none").get("problem", ""), "the reason"
    )
    run_maesh(nodes, "revoke", "receiver", "--undo")
    nodes.wait_for_certificate("receiver")
    nodes.commands["sender"].wait_until(lambda: nodes.get().status == 200, "an answer")


def test_a_revoked_certificate_is_refused_by_both_sides(nodes, relay):
    nodes.write("strict")
    start_both(nodes, *STEP)
    assert nodes.get().text == MARKER
    for node in ("sender", "receiver"):
        serial = nodes.wait_for_certificate(node)["serial"]
        run_maesh(nodes, "revoke", node, serial)
        nodes.commands["sender"].wait_until(lambda: nodes.get().status == 503, "a refusal")
        run_maesh(nodes, "revoke", node, serial, "--undo")
        nodes.commands["sender"].wait_until(lambda: nodes.get().status == 200, "an answer")


def write_other_authority(folder):
    """Replace the files of the folder as an administrator does."""
    for name, content in make_authority(datetime.now(UTC)).items():
        (folder / name).write_bytes(content)
