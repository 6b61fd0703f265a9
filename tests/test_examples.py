"""The examples do what their words say, and what the README shows runs."""

import importlib.util
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
WHOAMI = ROOT / "examples" / "whoami"


@pytest.fixture(scope="module")
def server_module():
    spec = importlib.util.spec_from_file_location("whoami_server", WHOAMI / "server.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_demo_server_listens_where_the_manifests_say(server_module):
    documents = list(yaml.safe_load_all((WHOAMI / "whoami.yaml").read_text()))
    (slice_,) = [document for document in documents if document["kind"] == "EndpointSlice"]
    (port,) = [port["port"] for port in slice_["ports"]]
    endpoints = {(address, port) for endpoint in slice_["endpoints"] for address in endpoint["addresses"]}
    pods = {(document["status"]["podIP"], port) for document in documents if document["kind"] == "Pod"}
    assert set(server_module.ADDRESSES) == endpoints == pods


def test_demo_server_answers_with_the_request_it_received(server_module, monkeypatch):
    monkeypatch.setattr(server_module, "ADDRESSES", (("127.0.1.1", 0),))
    (server,) = server_module.start_servers()
    try:
        command = (
            "import sys, urllib.request as u; sys.stdout.write(u.urlopen(sys.argv[1], timeout=10).read().decode())"
        )
        url = f"http://127.0.1.1:{server.server_port}/path?x=1"
        answer = subprocess.run(
            [sys.executable, "-c", command, url], capture_output=True, text=True, check=True, timeout=20
        ).stdout
    finally:
        server.shutdown()
        server.server_close()
    assert "GET /path?x=1 HTTP/1.1\n" in answer
    assert f"Host: 127.0.1.1:{server.server_port}\n" in answer
    assert "IP: 127.0.1.1\n" in answer
    assert re.search(r"^RemoteAddr: 127\.\d+\.\d+\.\d+:\d+$", answer, re.MULTILINE)


@pytest.mark.integration
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_whoami_example_serves_through_the_mesh_and_ends_with_status_0(number, tmp_path):
    ports = ["--http-port", "25741", "--api-port", "25742", "--admin-port", "25743"]
    environment = {**os.environ, "HOME": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, WHOAMI / "run.py", *ports], stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        line = next(line for line in process.stdout if "curl" in line)
        arguments = shlex.split(line[line.index("curl") :])
        assert "whoami.whoami.maesh" in line
        assert any(":25741" in argument for argument in arguments)
        process.send_signal(number)
        process.stdout.read()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_plugins_import_nothing_of_maesh_but_what_is_meant_for_them():
    sources = [*ROOT.glob("plugins/*/maesh_*/**/*.py"), *ROOT.glob("examples/plugins/*/maesh_*/**/*.py")]
    assert sources
    imported = {
        (str(source.relative_to(ROOT)), module)
        for source in sources
        for module in re.findall(r"^\s*(?:from|import)\s+(maesh_core[\w.]*)", source.read_text(), re.MULTILINE)
    }
    assert {module for _, module in imported} <= {"maesh_core.plugin", "maesh_core.testing"}, imported


def test_readme_names_only_make_targets_that_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"^make ([a-z]+)", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert {"up", "test"} <= named <= targets


def test_readme_names_only_files_that_exist():
    links = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / "README.md").read_text())
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
