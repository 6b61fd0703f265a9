"""`maesh tap` as users call it."""

import json
import os
import signal
import threading
import time

import pytest

from maesh_core.cli.app import run_command_line

from .tap_server import TapServer, render_record


@pytest.fixture
def server():
    server = TapServer()
    yield server
    server.close()


@pytest.fixture
def run(capfd, server, restored_logging):
    def run_arguments(*arguments, endpoint=server.url):
        status = run_command_line(["tap", "--endpoint", endpoint, *arguments])
        captured = capfd.readouterr()
        return status, captured.out, captured.err

    return run_arguments


def test_a_service_is_watched_until_the_limit(run, server):
    for line in (render_record(), b'{"dropped": 2}\n', render_record(path="/b"), render_record(path="/c")):
        server.lines.put(line)
    status, out, err = run("web.shop", "--limit", "2", "--status", "2xx", "--path", "/")
    assert status == 0
    assert [line.split("  ")[2] for line in out.splitlines()] == ["GET /a", "GET /b"]
    assert err == "maesh: 2 records dropped: too many at once; a narrower filter shows more\n"
    assert server.targets == ["/api/services", "/api/tap?path=/&status=2xx&limit=2&service=shop/web"]


def test_one_port_is_watched_if_it_is_named(run, server):
    server.lines.put(render_record())
    assert run("web:80", "--limit", "1", "--json")[0] == 0
    assert server.targets[1] == "/api/tap?limit=1&service=shop/web:80"


def test_json_has_one_object_for_each_line(run, server):
    for line in (b"\n", render_record(), b'{"error": "gone", "node": "n"}\n', render_record(path="/b")):
        server.lines.put(line)
    status, out, err = run("--json", "--limit", "2")
    assert (status, err) == (0, "")
    assert [json.loads(line).get("path") for line in out.splitlines()] == ["/a", None, "/b"]


def test_a_lost_controller_is_an_error(run, server):
    server.lines.put(render_record())
    server.lines.put(None)
    status, out, err = run()
    assert (status, len(out.splitlines())) == (1, 1)
    assert err == f"maesh: error: lost the controller at {server.url}: it has ended the tap\n"


def test_no_controller_a_refusal_and_an_unknown_service_are_errors(run, server):
    assert "no controller answers at http://127.0.0.1:1" in run(endpoint="http://127.0.0.1:1")[2]
    server.refusal = b"too many taps are open\n"
    assert run()[::2] == (1, "maesh: error: /api/tap: 503 too many taps are open\n")
    status, _, err = run("wbe")
    assert (status, err) == (1, "maesh: error: there is no service 'wbe'; did you mean web?\n")


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (("--status", "7"), 1, "--status must be like 404"),
        (("--path", "a"), 1, "--path must be the beginning of a path"),
        (("--limit", "-1"), 1, "--limit"),
        (("--metod", "GET"), 2, "--method"),
    ],
)
def test_mistyped_flags_are_refused_as_everywhere(run, arguments, status, text):
    ended, out, err = run(*arguments)
    assert (ended, out) == (status, "")
    assert text in err


def test_an_interrupt_ends_it_quietly(run, server):
    def interrupt():
        while not server.targets:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    assert run() == (0, "", "")
    thread.join()
