"""The controller is away for longer than a certificate lives: strict refuses, and permissive sends in clear."""

import shutil
import time
from datetime import UTC, datetime, timedelta

import pytest
from maesh_mtls.controller.authority import ca
from maesh_mtls.controller.authority.folder_store import FolderStore

from maesh_testing import wait_until

from .two_nodes import MARKER, REQUIRED, start_both

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]
CLEAR = 'maesh_transport_connections_total{path="clear".*}'
LEAST_S = 15.0
STARTS = 4
"""An authority lives for as long as so many starts, and a little longer, so that a busy machine has time for one."""


def start_with_authority_that_ends(nodes, monkeypatch):
    """Start all twice: the first start shows how long one needs here. Returns the life of the authority in seconds."""
    began = time.monotonic()
    start_both(nodes)
    assert nodes.get().text == MARKER
    life_s = LEAST_S + STARTS * (time.monotonic() - began)
    for node in ("sender", "receiver", "controller"):
        assert nodes.commands[node].stop() == 0
    monkeypatch.setattr(ca, "LIFETIME", timedelta(seconds=life_s))
    shutil.rmtree(nodes.folder / "ca")
    FolderStore(nodes.folder / "ca").write_now(ca.make_authority(datetime.now(UTC)), "", version="")
    start_both(nodes)
    return life_s


@pytest.mark.parametrize("mode", ["strict", "permissive"])
def test_after_the_end_of_its_certificate_a_node_sends_nothing_encrypted(nodes, relay, monkeypatch, mode):
    nodes.write(mode)
    life_s = start_with_authority_that_ends(nodes, monkeypatch)
    assert nodes.get().text == MARKER
    assert nodes.read_metric("sender", CLEAR) == 0
    nodes.commands["controller"].stop()
    if mode == "strict":
        wait_until(lambda: nodes.get().status == 503, "a refusal", life_s + 60)
        assert nodes.get().headers["X-Maesh-Reason"] == f"{REQUIRED}this node has no valid certificate"
    else:
        wait_until(lambda: nodes.get().status == 200 and nodes.read_metric("sender", CLEAR), "clear", life_s + 60)
    assert nodes.read_metric("sender", "maesh_tunnels") == 0
