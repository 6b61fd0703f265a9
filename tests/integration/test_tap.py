"""`maesh tap` at a real mesh: what clients send is what it shows, also of workers that are replaced."""

import http.client
import json
import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from maesh_core.controller.tap.mesh_tap import CLIENT_TAPS_LIMIT

pytestmark = pytest.mark.integration


@pytest.fixture
def web(manifests, build_service, start_upstream):
    """Put the services `web` and `api`, with one server of pod `web-0` and `api-0`, into the manifests."""
    upstream = start_upstream("web-1")
    manifests.write("web.json", build_service("web", upstream.port, namespace="shop", account="web"))
    manifests.write("api.json", build_service("api", upstream.port, namespace="shop", account="api"))
    return upstream


def read(command):
    """Return the whole lines so far."""
    return [json.loads(line) for line in command.stdout.splitlines(keepends=True) if line.endswith("\n")]


@pytest.mark.parametrize("workers", [1, 3])
def test_requests_of_one_service_are_shown_with_filters_until_ctrl_c(up, start_maesh, get, manifests, web, workers):
    mesh = up(manifests.path, "--workers", workers)
    endpoint = ("--endpoint", f"http://127.0.0.1:{mesh.api_port}")
    command = start_maesh("tap", "web.shop", "--path", "/shown*", "--json", *endpoint)

    def is_shown():
        get(mesh.http_port, "web.shop.maesh", path="/shown/first")
        return "/shown/first" in command.stdout

    command.wait_until(is_shown, "a record")
    for host, path in (("web.shop.maesh", "/hidden"), ("api.shop.maesh", "/shown/api")):
        assert get(mesh.http_port, host, path=path).status == 200
    for number in range(20):
        assert get(mesh.http_port, "web.shop.maesh", path=f"/shown/{number}?key=secret").status == 200
    web.status = 503
    assert get(mesh.http_port, "web.shop.maesh", path="/shown/last").status == 503

    def list_records():
        return [record for record in read(command) if record["path"] != "/shown/first"]

    command.wait_until(lambda: len(list_records()) >= 21, "the records of all workers")
    records = list_records()
    assert sorted(record["path"] for record in records) == sorted([*(f"/shown/{n}" for n in range(20)), "/shown/last"])
    last = next(record for record in records if record["path"] == "/shown/last")
    assert (last["status"], last["method"], last["client"], last["service"]) == (503, "GET", "127.0.0.1", "shop/web:80")
    assert last["server"] == f"127.0.0.1:{web.port}"
    assert "secret" not in command.stdout
    assert (command.stop(signal.SIGINT), command.stderr) == (0, "")


def test_text_shows_refusals_and_the_limit_ends_it(up, start_maesh, get, manifests, web, wait_until):
    mesh = up(manifests.path)
    command = start_maesh("tap", "--status", "404", "--limit", "1", "--endpoint", f"http://127.0.0.1:{mesh.api_port}")

    def has_ended():
        get(mesh.http_port, "none.shop.maesh", path="/x")
        return command.status is not None

    wait_until(has_ended, "the end")
    assert command.status == 0
    (line,) = command.stdout.splitlines()
    assert line.split("  ")[1] == "127.0.0.1"
    assert "  404  " in line


def test_a_controller_that_ends_is_an_error_and_other_viewers_are_refused_above_the_limit(
    up, start_maesh, get, manifests, web
):
    mesh = up(manifests.path)
    connections = []
    for _ in range(CLIENT_TAPS_LIMIT):
        connection = http.client.HTTPConnection("127.0.0.1", mesh.api_port, timeout=60)
        connection.request("GET", "/api/tap")
        response = connection.getresponse()
        assert response.status == 200
        connections.append((connection, response))
    assert get(mesh.api_port, path="/api/tap").status == 503
    connection, response = connections.pop()
    response.close()
    connection.close()
    command = start_maesh("tap", "--endpoint", f"http://127.0.0.1:{mesh.api_port}", "--json")

    def is_shown():
        get(mesh.http_port, "web.shop.maesh")
        return "shop/web:80" in command.stdout

    command.wait_until(is_shown, "a record")
    assert mesh.command.stop() == 0
    assert command.wait() == 1
    assert "lost the controller" in command.stderr
    for each, _ in connections:
        each.close()


def test_a_worker_that_is_replaced_is_watched_and_a_proxy_that_is_gone_is_named(
    start_controller, start_proxy, start_maesh, get, manifests, web, free_port
):
    http_port = free_port()
    _, api_port = start_controller(manifests.path, "--http-port", http_port, "--limit-http-port", 1)
    proxy, _ = start_proxy(api_port, "--node", "node-1", "--bind", "127.0.0.1")
    command = start_maesh("tap", "--endpoint", f"http://127.0.0.1:{api_port}")

    def is_shown(path):
        with suppress(OSError, http.client.HTTPException):
            get(http_port, "web.shop.maesh", path=path)
        return path in command.stdout

    command.wait_until(lambda: is_shown("/before"), "a record")
    children = Path(f"/proc/{proxy.process.pid}/task/{proxy.process.pid}/children")
    (worker,) = map(int, children.read_text().split())
    os.kill(worker, signal.SIGKILL)
    command.wait_until(lambda: is_shown("/after"), "a record of the new worker")
    proxy.process.kill()
    command.wait_until(lambda: "the records of proxy node-1 are missing" in command.stderr, "a note")
    assert command.stop(signal.SIGINT) == 0
