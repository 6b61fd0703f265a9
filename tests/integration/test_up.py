"""`maesh up` from the outside: it serves, says so, and ends as it should."""

import json
import re
import shlex
import signal
import socket
import subprocess
import urllib.request
from typing import Any

import pytest

pytestmark = pytest.mark.integration


@pytest.fixture
def cart(manifests, build_service, start_upstream):
    """Put a service `cart` with one server into the manifests."""
    upstream = start_upstream("cart-1")
    manifests.write("cart.json", build_service("cart", upstream.port))
    return upstream


def test_up_serves_a_service_under_its_mesh_host(up, get, manifests, cart):
    mesh = up(manifests.path)
    answer = get(mesh.http_port, "cart.test.maesh")
    assert (answer.status, answer.text) == (200, "cart-1")
    assert get(mesh.http_port, "CART.test.maesh.:80").status == 200
    assert get(mesh.http_port, "cart.test.traefik.mesh").status == 200


def test_up_answers_404_for_a_host_that_no_service_has(up, get, manifests, cart):
    mesh = up(manifests.path)
    answer = get(mesh.http_port, "nobody.test.maesh")
    assert answer.status == 404
    assert answer.headers["X-Maesh-Reason"]


def test_up_spreads_requests_over_the_servers_of_a_service(up, start_load, manifests, build_service, start_upstream):
    names = [f"cart-{number}" for number in range(3)]
    manifests.write("cart.json", build_service("cart", *(start_upstream(name).port for name in names)))
    load = start_load(up(manifests.path).http_port, "cart.test.maesh")
    load.wait_for(60)
    assert load.stop() == []
    assert sorted(load.seen) == names
    assert max(load.seen.values()) <= 2 * min(load.seen.values())


def test_up_prints_one_json_line_with_what_the_api_reports(up, get, manifests, cart):
    mesh = up(manifests.path)
    assert mesh.services == get(mesh.api_port, path="/api/services").json
    (service,) = mesh.services
    assert service["host"] == "cart.test.maesh"
    assert service["ports"][0]["entrypoint"] == mesh.http_port
    assert mesh.command.stop(signal.SIGINT) == 0
    assert mesh.command.stdout.count("\n") == 1


def test_the_api_reports_the_configuration_in_force_of_the_proxy(up, get, manifests, cart):
    mesh = up(manifests.path)
    (node,) = get(mesh.api_port, path="/api/status/nodes").json
    answer = get(mesh.api_port, path=f"/api/status/node/{node['name']}/configuration")
    assert answer.status == 200
    assert answer.json["revision"] == get(mesh.api_port, path="/api/configuration/current").json["revision"]
    assert answer.json == get(mesh.admin_port, path="/configuration").json
    assert get(mesh.api_port, path="/api/status/node/nobody/configuration").status == 404


@pytest.mark.parametrize("bind", ["127.0.75.9", "0.0.0.0", "localhost"])
def test_the_proxy_can_be_asked_whatever_address_up_binds(up, manifests, cart, bind):
    mesh = up(manifests.path, "--bind", bind)
    host = "127.0.0.1" if bind == "0.0.0.0" else bind
    base = f"http://{host}:{mesh.api_port}/api/status"
    with urllib.request.urlopen(f"{base}/nodes", timeout=60) as answer:
        (node,) = json.load(answer)
    with urllib.request.urlopen(f"{base}/node/{node['name']}/configuration", timeout=60) as answer:
        assert json.load(answer)["revision"] == node["revision"]


def test_notices_that_arise_while_up_runs_are_logged_once_and_again_when_they_are_mended(up, manifests, cart):
    mesh = up(manifests.path)
    assert mesh.command.stderr == ""
    split: dict[str, Any] = {
        "apiVersion": "split.smi-spec.io/v1alpha4",
        "kind": "TrafficSplit",
        "metadata": {"name": "canary", "namespace": "test"},
        "spec": {"service": "catr", "backends": [{"service": "cart", "weight": 1}]},
    }
    manifests.write("split.json", [split])
    text = "TrafficSplit canary@test: there is no service catr in namespace test; did you mean cart?"
    mesh.command.wait_until(lambda: text in mesh.command.stderr, "the finding in the log")
    manifests.write("other.json", [{"apiVersion": "v1", "kind": "Servce", "metadata": {"name": "a"}}])
    mesh.command.wait_until(lambda: "did you mean Service?" in mesh.command.stderr, "the misspelt kind in the log")
    manifests.write("other.json", [])
    mesh.command.wait_until(
        lambda: "other.json document 1 line 1 items[0]: no longer a problem" in mesh.command.stderr, "end"
    )
    manifests.write("split.json", [{**split, "spec": {**split["spec"], "service": "cart"}}])
    mended = text.replace("canary@test: ", "canary@test: no longer: ")
    mesh.command.wait_until(lambda: mended in mesh.command.stderr, "its end in the log")
    assert mesh.command.stderr.count(text) == 1


@pytest.mark.peer
def test_curl_line_that_up_prints_works(start_maesh, free_port, manifests, cart, program):
    curl = program("curl")
    ports = ("--http-port", free_port(), "--api-port", free_port(), "--admin-port", free_port())
    command = start_maesh("up", manifests.path, *ports)
    line = command.wait_until(lambda: re.search(r"\bcurl .*", command.stdout), "a curl line")
    assert "cart.test.maesh" in command.stdout
    answer = subprocess.run([curl, "-sS", *shlex.split(line.group())[1:]], capture_output=True, timeout=60, check=True)
    assert answer.stdout == b"cart-1"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_up_with_status_0_and_nothing_left(up, get, manifests, cart, number):
    mesh = up(manifests.path)
    assert get(mesh.http_port, "cart.test.maesh").status == 200
    assert mesh.command.stop(number) == 0
    assert mesh.command.find_left_behind() == []
    for port in (mesh.http_port, mesh.api_port, mesh.admin_port):
        assert get(port).status == 0


def test_ctrl_c_in_a_terminal_ends_up_with_status_0(up, manifests, cart):
    """A terminal signals the whole process group, so the parts get the signal beside the command that runs them."""
    mesh = up(manifests.path)
    subprocess.run(["kill", "-INT", "--", f"-{mesh.command.process.pid}"], check=True)
    assert mesh.command.wait() == 0
    assert mesh.command.find_left_behind() == []


@pytest.mark.parametrize("taken", ["--http-port", "--api-port", "--admin-port"])
def test_port_that_is_taken_ends_up_with_one_line_and_status_1(start_maesh, free_port, manifests, cart, taken):
    ports = {flag: free_port() for flag in ("--http-port", "--api-port", "--admin-port")}
    with socket.create_server(("127.0.0.1", ports[taken])):
        command = start_maesh("up", manifests.path, *(part for pair in ports.items() for part in pair))
        assert command.wait() == 1
    assert command.find_left_behind() == []
    assert str(ports[taken]) in command.stderr.splitlines()[-1]
    assert "Traceback" not in command.stderr


def test_up_of_an_empty_folder_is_ready_and_knows_no_service(up, get, manifests):
    mesh = up(manifests.path)
    assert mesh.services == []
    assert get(mesh.api_port, path="/api/status/readiness").status == 200


def test_service_that_appears_later_is_served(up, get, manifests, build_service, start_upstream, wait_until):
    mesh = up(manifests.path)
    manifests.write("late.json", build_service("late", start_upstream("late-1").port))
    wait_until(lambda: get(mesh.http_port, "late.test.maesh").status == 200, "the late service")
    (manifests.path / "late.json").unlink()
    wait_until(lambda: get(mesh.http_port, "late.test.maesh").status in (0, 404), "the end of the late service")


def test_tcp_service_has_an_entrypoint_of_its_own(up, get, manifests, build_service, start_upstream, free_port):
    annotations = {"maesh.containo.us/traffic-type": "tcp"}
    manifests.write("db.json", build_service("db", start_upstream("db-1").port, annotations=annotations))
    tcp_port = free_port()
    mesh = up(manifests.path, "--tcp-port", tcp_port, "--limit-tcp-port", 1, "--limit-http-port", 1)
    (service,) = mesh.services
    assert service["ports"][0]["entrypoint"] == tcp_port
    assert get(tcp_port, "any.host").text == "db-1"
    assert get(mesh.http_port, "db.test.maesh").status in (0, 404)
