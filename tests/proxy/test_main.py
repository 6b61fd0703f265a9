"""The program: a real process, started as the command line starts it."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from maesh_testing import find_free_port

COMMAND = [sys.executable, "-P", "-m", "maesh_core.proxy"]
MISSING = {
    "name": "odd",
    "distribution": "acme-odd",
    "version": "1",
    "summary": "",
    "is_default": False,
    "path": "no_such_module:PLUGIN",
}


def build_environment(**settings: Any) -> dict[str, str]:
    return {**os.environ, "MAESH_PROXY_SETTINGS_JSON": json.dumps(settings)}


@contextmanager
def running(*, python_path: str = "", **settings: Any) -> Iterator["subprocess.Popen[str]"]:
    environment = {**build_environment(**settings), **({"PYTHONPATH": python_path} if python_path else {})}
    process = subprocess.Popen(COMMAND, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_until_alive(port: int, process: "subprocess.Popen[str]") -> None:
    while process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=60):
                return
        except (urllib.error.URLError, ConnectionError):
            continue
    pytest.fail("the proxy ended")


PARENT = """
from maesh_core.plugin import Plugin, hookimpl

PLUGIN = Plugin(hook_api_version=1)

class Greeting:
    name = "greeting"
    def __init__(self, parent):
        self._parent = parent
    async def run(self):
        import asyncio
        self._parent.report((), {"node": self._parent.name, "port": str(self._parent.settings.admin_port)})
        await asyncio.Event().wait()

class ParentHalf:
    @hookimpl
    def maesh_node_services(self, parent):
        return [Greeting(parent)]
"""


def test_a_plugin_with_a_half_for_the_parent_runs_its_service_there(unused_tcp_port: int, tmp_path: Path) -> None:
    (tmp_path / "greeting.py").write_text(PARENT)
    plugin = {**MISSING, "name": "greeting", "path": "greeting:PLUGIN", "parent": "greeting:ParentHalf"}
    settings = {"endpoint": "http://127.0.0.1:1", "admin_host": "127.0.0.1", "bind": "127.0.0.1", "node": "n1"}
    with running(python_path=str(tmp_path), plugins=[plugin], admin_port=unused_tcp_port, **settings) as process:
        wait_until_alive(unused_tcp_port, process)
        expected = {"greeting": {"node": "n1", "port": str(unused_tcp_port)}}
        while process.poll() is None:
            with urllib.request.urlopen(f"http://127.0.0.1:{unused_tcp_port}/status", timeout=60) as answer:
                if json.load(answer).get("services") == expected:
                    return
    pytest.fail("the proxy ended")


def test_a_parents_half_that_cannot_be_loaded_ends_the_proxy_with_a_line(unused_tcp_port: int) -> None:
    plugin = {**MISSING, "parent": "no_such_module:Half"}
    with running(plugins=[plugin], endpoint="http://127.0.0.1:1", admin_port=unused_tcp_port) as process:
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.startswith("maesh: error: plugin 'odd' (acme-odd 1) cannot be imported from no_such_module:PLUGIN")


@pytest.mark.parametrize(("scheme", "has_openssl"), [("http", False), ("https", True)])
def test_openssl_is_loaded_only_where_the_controller_is_asked_over_tls(
    scheme: str, has_openssl: bool, unused_tcp_port: int
) -> None:
    endpoint = f"{scheme}://127.0.0.1:1"
    with running(endpoint=endpoint, admin_host="127.0.0.1", admin_port=unused_tcp_port, bind="127.0.0.1") as process:
        wait_until_alive(unused_tcp_port, process)
        with open(f"/proc/{process.pid}/maps") as maps:
            assert ("libssl" in maps.read()) == has_openssl


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_status_0(number: int, unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COVERAGE_PROCESS_START", raising=False)  # it would count as memory of the proxy
    with running(
        endpoint="http://127.0.0.1:1", bind="127.0.0.1", admin_host="127.0.0.1", admin_port=unused_tcp_port
    ) as process:
        wait_until_alive(unused_tcp_port, process)
        assert process.stderr is not None
        told = process.stderr.readline()  # the workers are there
        with open(f"/proc/{process.pid}/status") as status:
            resident_kb = next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0
        assert "Traceback" not in errors
        assert (told + errors).count("cannot pull from the controller") == 1
        assert resident_kb < 30_000


@pytest.mark.parametrize(
    ("environment", "text"),
    [
        ({**os.environ, "MAESH_PROXY_SETTINGS_JSON": "{"}, "MAESH_PROXY_SETTINGS_JSON"),
        (build_environment(endpoint="ftp://x"), "--endpoint ftp://x"),
        (
            build_environment(endpoint="http://127.0.0.1:1", plugins=(MISSING,), admin_port=find_free_port()),
            "no_such_module",
        ),
        (dict(os.environ), "maesh proxy"),
    ],
)
def test_a_bad_start_is_one_line_and_status_1(environment: dict[str, str], text: str) -> None:
    ended = subprocess.run(COMMAND, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith("maesh: error: ")
    assert ended.stderr.count("\n") == 1
    assert text in ended.stderr


def test_an_admin_port_that_is_taken_is_one_line_and_status_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        environment = build_environment(endpoint="http://127.0.0.1:1", admin_host="127.0.0.1", admin_port=port)
        ended = subprocess.run(COMMAND, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    line = f"maesh: error: cannot listen on 127.0.0.1:{port} (--admin-port): Address already in use\n"
    assert ended.stderr == line


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_held_back_while_the_program_starts_ends_it_with_status_0(number: signal.Signals) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [number])
    try:
        process = subprocess.Popen(COMMAND, env=build_environment(), stderr=subprocess.PIPE)
        process.send_signal(number)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
    assert (process.communicate(timeout=60)[1], process.returncode) == (b"", 0)
