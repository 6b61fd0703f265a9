"""The examples do what their words say, and what the README shows runs."""

import importlib.util
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml

from maesh_testing import find_free_port

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
NAMES = sorted(path.parent.name for path in EXAMPLES.glob("*/server.py"))


def load_server(name):
    spec = importlib.util.spec_from_file_location(f"{name}_server", EXAMPLES / name / "server.py")
    module = importlib.util.module_from_spec(spec)
    if name == "grpc":
        pytest.importorskip("grpc", reason="grpcio is not installed: make grpc")
    folders = [str(EXAMPLES / name), str(EXAMPLES)]
    sys.path[:0] = folders  # as run.py has it
    try:
        spec.loader.exec_module(module)
    finally:
        for folder in folders:
            sys.path.remove(folder)
        sys.modules.pop("messages", None)
    return module


@pytest.mark.parametrize("name", NAMES)
def test_demo_server_listens_where_the_manifests_say(name):
    (path,) = (EXAMPLES / name).glob("*.yaml")
    documents = list(yaml.safe_load_all(path.read_text()))
    services = [document for document in documents if document["kind"] == "Service"]
    pods = [document for document in documents if document["kind"] == "Pod"]
    served = {
        (pod["status"]["podIP"], port.get("targetPort", port["port"]))
        for service in services
        for pod in pods
        for port in service["spec"]["ports"]
        if service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    }
    assert served == set(load_server(name).ADDRESSES)
    for slice_ in [document for document in documents if document["kind"] == "EndpointSlice"]:
        addresses = [address for endpoint in slice_["endpoints"] for address in endpoint["addresses"]]
        assert {(address, slice_["ports"][0]["port"]) for address in addresses} == set(load_server(name).ADDRESSES)


def test_demo_server_answers_with_the_request_it_received(monkeypatch):
    server_module = load_server("whoami")
    monkeypatch.setattr(server_module, "ADDRESSES", (("127.0.1.1", 0),))
    (server,) = server_module.start_servers()
    try:
        command = (
            "import sys, urllib.request as u; sys.stdout.write(u.urlopen(sys.argv[1], timeout=60).read().decode())"
        )
        url = f"http://127.0.1.1:{server.server_port}/path?x=1"
        answer = subprocess.run(
            [sys.executable, "-c", command, url], capture_output=True, text=True, check=True, timeout=60
        ).stdout
    finally:
        server.shutdown()
        server.server_close()
    assert "GET /path?x=1 HTTP/1.1\n" in answer
    assert f"Host: 127.0.1.1:{server.server_port}\n" in answer
    assert "IP: 127.0.1.1\n" in answer
    assert re.search(r"^RemoteAddr: 127\.\d+\.\d+\.\d+:\d+$", answer, re.MULTILINE)


@pytest.fixture
def start_example(tmp_path):
    """Start an example on ports of its own, and read what it prints until a line has these words."""
    processes = []

    def start(name, *flags, words, http_port=None):
        given = {"--http-port": http_port or find_free_port(), "--limit-http-port": 1, "--limit-tcp-port": 1}
        given |= {"--api-port": find_free_port(), "--admin-port": find_free_port()}
        options = [word for pair in given.items() for word in pair]
        process = subprocess.Popen(
            [str(word) for word in (sys.executable, EXAMPLES / "run.py", name, *options, *flags)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path), "PYTHONUNBUFFERED": "1"},
        )
        processes.append(process)
        return process, next(line for line in process.stdout if words in line)

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


def end_example(process, number=signal.SIGINT):
    process.send_signal(number)
    process.stdout.read()
    assert process.wait(60) == 0


@pytest.mark.integration
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_whoami_example_serves_through_the_mesh_and_ends_with_status_0(number, start_example):
    port = find_free_port()
    process, line = start_example("whoami", words="curl", http_port=port)
    arguments = shlex.split(line[line.index("curl") :])
    assert "whoami.whoami.maesh" in line
    assert any(f":{port}" in argument for argument in arguments)
    end_example(process, number)


@pytest.mark.integration
def test_tcp_example_greets_first_and_sends_lines_back_from_both_servers(start_example):
    port = find_free_port()
    process, line = start_example("tcp", "--tcp-port", port, words="examples/greeter")
    assert line.split() == ["examples/greeter", "greeter.examples.maesh", "tcp", "7000", f"127.0.0.1:{port}"]
    seen = set()
    for _ in range(2):
        with socket.create_connection(("127.0.0.1", port), 60) as client, client.makefile("rb") as lines:
            address = re.match(r"This is ([\d.]+)\. ", lines.readline().decode()).group(1)
            client.sendall(b"hello\n")
            assert lines.readline().decode() == f"{address}: hello\n"
            seen.add(address)
    assert seen == {address for address, _ in load_server("tcp").ADDRESSES}
    end_example(process)


@pytest.mark.integration
def test_udp_example_answers_in_sessions_from_both_servers(start_example):
    entrypoint = f"127.0.0.1:{find_free_port(socket.SOCK_DGRAM)}"
    process, line = start_example("udp", "--set", f"udp.port={entrypoint.partition(':')[2]}", words="test/udp-service")
    assert line.split() == ["test/udp-service", "udp-service.test.maesh", "udp", "8080", entrypoint]
    command: list[str] = [sys.executable, str(EXAMPLES / "udp" / "ask.py"), entrypoint]
    seen = set()
    for _ in range(2):
        answers = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
        ends, words = zip(*(line.split(": ") for line in answers.splitlines()), strict=True)
        assert words == ("one", "two", "three")
        assert len(set(ends)) == 1, "one session has one server, and one port there"
        seen.add(ends[0].split()[0])
    assert seen == {address for address, _ in load_server("udp").ADDRESSES}
    end_example(process)
    assert subprocess.run(command, capture_output=True, timeout=60).returncode == 1


def list_commands(name, port):
    """List the commands that the first lines of an example's manifest say, with the port of the test's mesh."""
    (path,) = (EXAMPLES / name).glob("*.yaml")
    lines = re.findall(r"^#   (.+)$", path.read_text(), re.MULTILINE)
    assert lines
    assert all("http://127.0.0.1:5000/" in line for line in lines)
    return [line.replace("http://127.0.0.1:5000/", f"http://127.0.0.1:{port}/") for line in lines]


def run_shell(command):
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.mark.integration
@pytest.mark.peer
@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_canary_example_divides_the_requests_as_its_words_say(start_example):
    port = find_free_port()
    process, _ = start_example("canary", words="curl", http_port=port)
    everyone, beta, denied = list_commands("canary", port)
    for _ in range(2):
        assert Counter(run_shell(everyone).splitlines()) == {"v1": 9, "v2 blue": 2, "v2 green": 1}
        assert Counter(run_shell(beta).splitlines()) == {"v2 blue": 4, "v2 green": 2}
    assert run_shell(denied).startswith("HTTP/1.1 403 ")
    end_example(process)


@pytest.mark.integration
@pytest.mark.peer
@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_gateway_example_routes_and_copies_as_its_words_say(start_example):
    port = find_free_port()
    process, _ = start_example("gateway", words="curl", http_port=port)
    everyone, beta, slow, copies = list_commands("gateway", port)
    for _ in range(3):
        assert Counter(run_shell(everyone).splitlines()) == {"v1": 9, "v2": 1}
        assert run_shell(beta) == "v2\n"
    assert run_shell(slow).startswith("HTTP/1.1 504 ")
    assert re.fullmatch(r"next has got \d+ requests\n", run_shell(copies))
    end_example(process)


@pytest.mark.integration
@pytest.mark.peer
@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_acl_example_lets_in_whom_its_words_say(start_example):
    port = find_free_port()
    process, line = start_example("acl", words="curl", http_port=port)
    for command in list_commands("acl", port):
        status = command.rpartition(": ")[2]
        answer = run_shell(command)
        assert answer.startswith(f"HTTP/1.1 {status} "), command
        assert ("X-Maesh-Reason" in answer) is (status == "403")
    assert run_shell(line[line.index("curl") :].replace("curl", "curl -i", 1)).startswith("HTTP/1.1 403 ")
    end_example(process)


@pytest.mark.integration
@pytest.mark.skipif(importlib.util.find_spec("grpc") is None, reason="grpcio is not installed: make grpc")
def test_grpc_example_divides_the_calls_as_its_words_say(start_example, monkeypatch):
    port = find_free_port()
    process, line = start_example("grpc", words="gRPC client", http_port=port)
    assert line.split(": ")[1] == f"address 127.0.0.1:{port}, authority greeter.grpc.maesh\n"
    (path,) = (EXAMPLES / "grpc").glob("*.yaml")
    lines = re.findall(r"^#   (.+)$", path.read_text(), re.MULTILINE)
    hello, count, chat = [
        line.replace("127.0.0.1:5000", f"127.0.0.1:{port}").replace(".venv/bin/python", sys.executable)
        for line in lines
        if line.startswith((".venv", "for"))
    ]
    monkeypatch.chdir(ROOT)
    assert Counter(run_shell(hello).splitlines()) == {"v1: hello, world": 3, "v2: hello, world": 1}
    assert re.fullmatch(r"(v.): 1 one\n\1: 2 two\n\1: 3 three\n", run_shell(count))
    assert run_shell(chat) == "v2: you said good\nv2: you said morning\n"
    client = [sys.executable, str(EXAMPLES / "grpc" / "client.py"), "hello"]
    failed = subprocess.run([*client, "", f"127.0.0.1:{port}"], capture_output=True, text=True, timeout=60)
    assert (failed.returncode, failed.stderr) == (1, "INVALID_ARGUMENT: whom shall I greet?\n")
    end_example(process)


def test_the_message_of_the_grpc_example_is_that_of_protobuf():
    spec = importlib.util.spec_from_file_location("grpc_messages", EXAMPLES / "grpc" / "messages.py")
    messages = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(messages)
    assert messages.encode("hi") == b"\x0a\x02hi"
    assert messages.encode("") == b""
    assert messages.encode("x" * 300).startswith(b"\x0a\xac\x02x")
    for text in ("", "a", "é" * 100, "x" * 127, "x" * 128, "x" * 70000):
        assert messages.decode(messages.encode(text)) == text
    for broken in (b"\x0a", b"\x0a\x05hi", b"\x12\x02hi", b"\x0a\x80"):
        with pytest.raises(ValueError):
            messages.decode(broken)


def test_an_example_that_does_not_exist_is_told():
    done = subprocess.run([sys.executable, EXAMPLES / "run.py", "none"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr == f"There is no example 'none'. The examples are {', '.join(NAMES)}.\n"


def test_the_grpc_example_says_how_to_install_grpcio(tmp_path):
    (tmp_path / "grpc").mkdir()  # hides grpcio where it is installed; the example sees a package without its contents
    (tmp_path / "grpc" / "__init__.py").touch()
    command = [sys.executable, str(EXAMPLES / "run.py"), "grpc"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 1
    assert done.stderr == "grpcio is not installed. `make up EXAMPLE=grpc` installs what this example needs.\n"


def test_ctrl_c_before_the_mesh_starts_ends_an_example_without_a_traceback(tmp_path):
    folder = tmp_path / "slow"
    folder.mkdir()
    shutil.copy(EXAMPLES / "run.py", tmp_path)
    (folder / "server.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)\n")
    process = subprocess.Popen(
        [sys.executable, tmp_path / "run.py", "slow"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout.readline() == "importing\n"
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=60)
    assert (process.returncode, rest) == (130, "")


def test_plugins_import_nothing_of_maesh_but_what_is_meant_for_them():
    sources = [*ROOT.glob("plugins/*/maesh_*/**/*.py"), *ROOT.glob("examples/plugins/*/maesh_*/**/*.py")]
    assert sources
    imported = {
        (str(source.relative_to(ROOT)), module)
        for source in sources
        for module in re.findall(r"^\s*(?:from|import)\s+(maesh_core[\w.]*)", source.read_text(), re.MULTILINE)
    }
    assert {module for _, module in imported} <= {"maesh_core.plugin", "maesh_testing"}, imported


def test_readme_names_only_make_targets_that_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"^make ([a-z]+)", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert {"up", "test"} <= named <= targets


def test_readme_names_only_files_that_exist():
    links = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / "README.md").read_text())
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
