"""`/api/traffic` and `/api/tap` of a cluster with two controllers, each with a proxy of its own: both show everything.

The service is split, and two workloads call it through both proxies.
"""

import http.client
import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

CRDS = Path(__file__).resolve().parents[2] / "charts" / "maesh" / "crds"
KEY, HOST = "shop/web:80", "web.shop.maesh"
PROXIES = {"node-a": "127.0.0.1", "node-b": "127.0.0.2"}
CLIENTS = {"phone": "127.0.3.1", "kiosk": "127.0.3.2"}
REQUESTS = {("node-a", "phone"): 9, ("node-a", "kiosk"): 4, ("node-b", "phone"): 11, ("node-b", "kiosk"): 16}


def build_pod(name, address):
    """Build a pod of a Deployment."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{name}-7d4b9c8f5d-x",
            "namespace": "shop",
            "labels": {"app": name, "pod-template-hash": "7d4b9c8f5d"},
            "ownerReferences": [{"kind": "ReplicaSet", "name": f"{name}-7d4b9c8f5d", "apiVersion": "apps/v1"}],
        },
        "spec": {"serviceAccountName": name, "nodeName": "node-1", "containers": []},
        "status": {"podIP": address, "phase": "Running"},
    }


def build_split():
    return {
        "apiVersion": "split.smi-spec.io/v1alpha3",
        "kind": "TrafficSplit",
        "metadata": {"name": "canary", "namespace": "shop"},
        "spec": {
            "service": "web",
            "backends": [{"service": "web-v1", "weight": 3}, {"service": "web-v2", "weight": 1}],
        },
    }


def send(address, port, client, path="/"):
    """Send a request from the address of a client; returns the status."""
    connection = http.client.HTTPConnection(address, port, timeout=60, source_address=(CLIENTS[client], 0))
    try:
        connection.request("GET", path, headers={"Host": HOST})
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()


@pytest.fixture
def server(api_server, tmp_path, build_user_service, build_slice, start_upstream):
    """Return an API server with a split service, two servers, and two clients."""
    api_server.kubeconfig = api_server.write_kubeconfig(tmp_path / "kubeconfig")
    api_server.add_crds(CRDS)
    names = ("web", "web-v1", "web-v2")
    api_server.apply([build_user_service(name, namespace="shop") for name in names])
    api_server.failing = start_upstream("v2")
    for name, upstream in (("web-v1", start_upstream("v1")), ("web-v2", api_server.failing)):
        api_server.apply(build_slice(f"{name}-1", "127.0.0.1", upstream.port, service=name, namespace="shop"))
    api_server.apply([build_split(), *(build_pod(name, address) for name, address in CLIENTS.items())])
    return api_server


@pytest.fixture
def mesh(server, start_beside, start_proxy, build_slice, free_port):
    """Start two controllers that know of each other, and a proxy for each; both proxies have the same entrypoint."""
    http_port = free_port()
    commands, api_ports = [], []
    for name, address in PROXIES.items():
        command, api_port, _ = start_beside(server.kubeconfig, "--limit-http-port", 1, http_port=http_port)
        start_proxy(api_port, "--node", name, "--bind", address)
        commands.append(command)
        api_ports.append(api_port)
    for name, api_port in zip("ab", api_ports, strict=True):
        pod = f"maesh-controller-{name}"
        found = build_slice(pod, "127.0.0.1", api_port, service="maesh-controller", namespace="maesh")
        found["endpoints"][0]["targetRef"] = {"kind": "Pod", "name": pod, "namespace": "maesh"}
        server.apply(found)
    return commands, api_ports, http_port


def find_service(report, key=KEY):
    return next(each for each in report["services"] if each["key"] == key)


def count_requests(report):
    return find_service(report)["total"]["requests"]


@pytest.fixture
def read(get, wait_until):
    """Read the report of a controller once it has so many requests and lists so many proxies."""

    def read(api_port, requests, proxies):
        def look():
            answer = get(api_port, path="/api/traffic")
            is_there = answer.status == 200 and count_requests(answer.json) == requests
            return answer.json if is_there and len(answer.json["nodes"]) == proxies else None

        return wait_until(look, f"{requests} requests of {proxies} proxies")

    return read


def test_every_controller_reports_the_branches_and_callers_of_all_proxies(server, mesh, read, run_maesh):
    commands, api_ports, http_port = mesh
    server.failing.status = 503
    statuses = [
        send(PROXIES[proxy], http_port, client) for (proxy, client), count in REQUESTS.items() for _ in range(count)
    ]
    total, failed = sum(REQUESTS.values()), statuses.count(503)
    assert (total, failed) == (40, 10), "3 of 4 requests go to the first branch"

    reports = [read(api_port, total, 2) for api_port in api_ports]
    services = [find_service(report) for report in reports]
    for report, service in zip(reports, services, strict=True):
        assert report["missing"] == []
        assert [(node["name"], node["error"], node["leftOut"]) for node in report["nodes"]] == [
            ("node-a", "", 0),
            ("node-b", "", 0),
        ]
        assert service["total"]["success"] == 0.75
        branches = {each["destination"]: each for each in service["branches"]}
        assert {name: (each["weight"], each["total"]["requests"]) for name, each in branches.items()} == {
            KEY: (0.0, 0),
            "shop/web-v1:80": (0.75, total - failed),
            "shop/web-v2:80": (0.25, failed),
        }
        assert branches["shop/web-v2:80"]["total"]["success"] == 0.0
        callers = {each["caller"]: each for each in service["callers"]}
        assert {name: each["total"]["requests"] for name, each in callers.items()} == {
            f"Deployment/{name}@shop": sum(count for (_, client), count in REQUESTS.items() if client == name)
            for name in CLIENTS
        }
        assert callers["Deployment/phone@shop"]["addresses"] == [CLIENTS["phone"]]
        assert callers["Deployment/phone@shop"]["account"] == "phone@shop"
    # The histograms of both proxies are merged: both controllers compute the same percentiles of all requests.
    assert services[0]["total"]["total"] == services[1]["total"]["total"]
    assert services[0]["total"]["codes"] == services[1]["total"]["codes"]

    shown = run_maesh("top", "web.shop", "--json", "--endpoint", f"http://127.0.0.1:{api_ports[1]}")
    assert shown.status == 0, shown.stderr
    assert count_requests(json.loads(shown.stdout)) == total

    commands[0].process.kill()
    rest = sum(count for (proxy, _), count in REQUESTS.items() if proxy == "node-b")
    report = read(api_ports[1], rest, 1)
    assert [each["name"] for each in report["missing"]] == ["maesh-controller-a"]
    assert report["missing"][0]["error"] == "the controller cannot be reached"
    shown = run_maesh("top", "--once", "--endpoint", f"http://127.0.0.1:{api_ports[1]}")
    assert "proxies may be missing, as 1 controller did not answer: maesh-controller-a" in shown.stdout


def test_every_controller_taps_all_proxies_also_those_of_a_controller_that_is_lost(mesh, start_maesh):
    commands, api_ports, http_port = mesh
    endpoints = [f"http://127.0.0.1:{port}" for port in api_ports]
    taps = [start_maesh("tap", "web.shop", "--json", "--endpoint", endpoint) for endpoint in endpoints]

    def read(tap, field):
        lines = [json.loads(line) for line in tap.stdout.splitlines(keepends=True) if line.endswith("\n")]
        return [line[field] for line in lines if field in line]

    def is_shown(tap, name, path):
        send(PROXIES[name], http_port, "phone", path)
        return path in read(tap, "path")

    for tap in taps:
        for name in PROXIES:
            tap.wait_until(lambda tap=tap, name=name: is_shown(tap, name, f"/first/{name}"), f"a record of {name}")
    expected = [f"/{name}/{number}" for name in PROXIES for number in range(10)]
    for path in expected:
        send(PROXIES[path.split("/")[1]], http_port, "kiosk", path)
    for tap in taps:

        def list_paths(tap=tap):
            return [path for path in read(tap, "path") if not path.startswith("/first/")]

        tap.wait_until(lambda: len(list_paths()) >= len(expected), "all records")
        assert sorted(list_paths()) == sorted(expected), "each record is shown once"
        assert set(read(tap, "source")) == {f"shop/{name}-7d4b9c8f5d-x" for name in CLIENTS}
        assert read(tap, "error") == []

    commands[0].process.kill()
    taps[1].wait_until(lambda: "maesh-controller-a" in read(taps[1], "controller"), "the controller that is lost")
    taps[1].wait_until(lambda: is_shown(taps[1], "node-a", "/later"), "a record of its proxy")
    assert read(taps[1], "error") == ["the controller cannot be reached"]
    assert taps[0].wait() == 1
    assert f"lost the controller at {endpoints[0]}" in taps[0].stderr
