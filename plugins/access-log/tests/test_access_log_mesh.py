"""The access log of a whole mesh: what clients did is what the file says, whatever worker served them."""

import json
import os
import re
import signal
import socket
from collections import Counter

import pytest

from maesh_testing import build_pod, build_service, find_free_port

pytestmark = pytest.mark.integration

FILE, JSON = "access-log.file=", "access-log.format=json"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "access.log"


def read(path):
    """Read the records of a file; raises ValueError for a line that is not one."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.split("\n")[:-1]]


def read_parent(pid):
    with open(f"/proc/{pid}/stat") as stat:
        return int(stat.read().rpartition(")")[2].split()[1])


def find_proxy(command):
    (pid,) = [pid for pid in command.find_left_behind() if read_parent(pid) == command.process.pid]
    return pid


def find_mesh(command):
    return command.process.pid


def read_counter(mesh, name):
    return int(float(re.search(rf"^maesh_access_log_{name}_total (\S+)", mesh.read_metrics(), re.MULTILINE)[1]))


def test_every_request_of_every_worker_is_one_record(start_mesh, path):
    mesh = start_mesh("--access-log", "--set", FILE + str(path), "--set", JSON, "--workers", 2, servers=2)
    for number in range(40):
        assert mesh.get(f"/items/{number}?q=%22").status == 200
    assert mesh.get("/", host="nobody.test.maesh").status == 404
    mesh.wait_until(lambda: len(read(path)) == 41, "all records")
    records = read(path)
    assert Counter(record["DownstreamStatus"] for record in records) == {200: 40, 404: 1}
    served = [record for record in records if record["DownstreamStatus"] == 200]
    assert {record["RequestPath"] for record in served} == {f"/items/{number}?q=%22" for number in range(40)}
    assert {record["RouterName"] for record in served} == {"test/app:80"}
    assert len({record["ServiceAddr"] for record in served}) == 2
    assert {record["Reason"] for record in served} == {""}
    (refused,) = [record for record in records if record["DownstreamStatus"] == 404]
    assert (refused["Kind"], refused["RouterName"], refused["RequestHost"]) == ("refused", "", "nobody.test.maesh")
    assert refused["Reason"]
    mesh.wait_until(lambda: read_counter(mesh, "written") == 41, "the counter")
    assert read_counter(mesh, "dropped") == 0


def test_a_tcp_connection_is_a_record(start_mesh, start_upstream, path):
    server, entrypoint = start_upstream("db"), find_free_port()
    objects = build_service("db", [(server.address, server.port)], annotations={"traffic-type": "tcp"})
    flags = ("--access-log", "--set", FILE + str(path), "--set", JSON)
    mesh = start_mesh(*flags, "--tcp-port", entrypoint, "--limit-tcp-port", 1, objects=objects)
    with socket.create_connection(("127.0.0.1", entrypoint)) as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        while client.recv(4096):
            pass
    (record,) = mesh.wait_until(lambda: read(path), "the record")
    assert (record["Kind"], record["RequestProtocol"], record["DownstreamStatus"]) == ("tcp", "TCP", 0)
    assert record["ServiceAddr"] == f"{server.address}:{server.port}"
    assert record["RequestContentSize"] == len(b"GET / HTTP/1.0\r\n\r\n")


def test_the_pods_of_clients_are_named_and_follow_the_cluster(start_mesh, path):
    job = build_pod("job-0", "127.0.0.5", "default", namespace="batch")
    agent = build_pod("agent", "127.0.0.6", "default")
    agent["spec"]["hostNetwork"] = True
    flags = ("--access-log", "--set", FILE + str(path), "--set", JSON, "--workers", 2)
    mesh = start_mesh(*flags, objects=[job, agent])

    def ask(name, client="127.0.0.5"):
        mesh.get(f"/{name}", client=client)
        return {record["ClientPod"] for record in read(path) if record["RequestPath"] == f"/{name}"}

    mesh.wait_until(lambda: "batch/job-0" in ask("first"), "a record with the name")
    mesh.wait_until(lambda: ask("agent", "127.0.0.6"), "a record of a pod on the host's network")
    mesh.manifests.write("more.json", [build_pod("job-1", "127.0.0.5", "default", namespace="batch")])
    mesh.wait_until(lambda: "batch/job-1" in ask("second"), "a record with the name of the next pod")
    mesh.manifests.write("more.json", [])
    mesh.wait_until(lambda: "" in ask("third"), "a record without a name")
    assert ask("first") <= {"batch/job-0", "batch/job-1", ""}
    assert ask("agent", "127.0.0.6") == {""}


def test_the_end_of_the_proxy_flushes_what_was_accepted(start_mesh, path):
    mesh = start_mesh("--access-log", "--set", FILE + str(path), "--set", JSON)
    for number in range(10):
        mesh.get(f"/{number}")
    assert mesh.command.stop(signal.SIGTERM) == 0
    assert [record["RequestPath"] for record in read(path)] == [f"/{number}" for number in range(10)]


def test_an_annotation_switches_the_log_of_a_service(start_mesh, path):
    flags = ("--access-log", "--set", FILE + str(path), "--set", "access-log.format=%{RequestPath}")
    mesh = start_mesh(*flags, annotations={"access-log": "false"})
    mesh.get("/silent")
    mesh.set_annotations({"access-log": "true"})

    def has_line():
        mesh.get("/logged")
        return path.exists() and path.read_text()

    mesh.wait_until(has_line, "a record")
    assert set(path.read_text().split()) == {"/logged"}
    assert mesh.describe_service()["notices"] == []


@pytest.mark.parametrize("find_receiver", [find_proxy, find_mesh])
def test_sigusr1_reaches_the_workers_and_ends_no_process(start_mesh, path, tmp_path, find_receiver):
    mesh = start_mesh("--access-log", "--set", FILE + str(path), "--set", JSON, "--workers", 2)
    mesh.get("/first")
    mesh.wait_until(lambda: read(path), "the first record")
    moved = tmp_path / "moved.log"
    path.rename(moved)
    os.kill(find_receiver(mesh.command), signal.SIGUSR1)
    mesh.wait_until(path.exists, "the new file")
    mesh.get("/second")
    mesh.wait_until(lambda: read(path), "the second record")
    assert [record["RequestPath"] for record in read(moved)] == ["/first"]
    assert [record["RequestPath"] for record in read(path)] == ["/second"]


def test_without_the_plugin_the_signal_does_nothing(start_mesh):
    mesh = start_mesh(annotations={"access-log": "true"})
    (notice,) = mesh.describe_service()["notices"]
    assert "plugin access-log is off; --access-log switches it on" in notice
    os.kill(find_proxy(mesh.command), signal.SIGUSR1)
    assert mesh.get("/").status == 200
    assert mesh.command.stop(signal.SIGTERM) == 0


def test_standard_output_is_the_default(start_mesh):
    mesh = start_mesh("--access-log")
    mesh.get("/items?page=2")
    pattern = (
        r'^127\.0\.0\.1 - - \[.*\] "GET /items\?page=2 HTTP/1\.1" 200 \d+ "-" ".*" 1 "test/app:80" "\S+" \d+ms "-"$'
    )
    mesh.wait_until(lambda: re.search(pattern, mesh.command.stdout, re.MULTILINE), "the line")
