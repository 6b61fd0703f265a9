"""The log of a running mesh: quiet while everything works, one line when something fails, one when it works again."""

import os
import re
import signal
import time
from pathlib import Path

import pytest

from maesh_testing.commands import wait_until
from maesh_testing.upstream import Upstream

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def read_log(mesh):
    """Return the log's lines, without their times and loggers."""
    return [re.sub(r"^\S+ +", "", line) for line in mesh.command.stderr.splitlines()]


def list_processes(pid):
    """List a process and those that it started."""
    found = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [pid, *(each for child in found for each in list_processes(child))]


def test_a_mesh_with_traffic_and_changes_is_quiet(start_mesh):
    mesh = start_mesh()
    for _ in range(20):
        assert mesh.get("/").status == 200
    mesh.set_annotations({"retry-attempts": "2"})
    mesh.manifests.write("more.json", [])
    wait_until(lambda: mesh.get("/").status == 200, "the mesh answers")
    assert mesh.command.stop() == 0
    assert mesh.command.stderr == ""


def test_a_worker_that_dies_is_one_line_and_its_replacement_another(start_mesh):
    mesh = start_mesh()
    workers = [
        pid
        for pid in list_processes(mesh.command.process.pid)
        if b"maesh_core.proxy.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    os.kill(workers[-1], signal.SIGKILL)
    mesh.wait_until(lambda: "routes traffic again" in mesh.command.stderr, "the worker is replaced")
    assert read_log(mesh) == [
        "ERROR   maesh_core.proxy.workers.pool: replacing worker 0: it ended with signal SIGKILL",
        "WARNING maesh_core.proxy.workers.pool: worker 0 routes traffic again",
    ]


def test_a_server_that_is_gone_is_one_line_and_its_return_another(start_mesh):
    mesh = start_mesh("--server-pause", "100ms", "--server-pause-limit", "200ms")
    (server,) = mesh.upstreams
    server.headers["Connection"] = "close"  # its threads would go on to serve open connections
    assert mesh.get("/").status == 200
    server.close()

    def ask(text):
        mesh.get("/")
        time.sleep(0.05)
        return text in mesh.command.stderr

    mesh.wait_until(lambda: ask("is set aside"), "the server is set aside")
    for _ in range(20):
        ask("")
    again = Upstream("again", server.port, server.address)
    try:
        mesh.wait_until(lambda: ask("is in use again"), "the server is back")
    finally:
        again.close()
    name = f"http://{server.address}:{server.port}"
    assert read_log(mesh) == [
        f"WARNING maesh_core.proxy.balancing.health: server {name} is set aside: it keeps failing",
        f"WARNING maesh_core.proxy.balancing.health: server {name} is in use again",
    ]
