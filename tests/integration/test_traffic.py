"""`/api/traffic` of a real mesh: what clients sent is what the report counts, in every way to run the mesh."""

import subprocess
import urllib.request

import pytest

pytestmark = pytest.mark.integration

KEY = "shop/web:80"


@pytest.fixture
def report(get, wait_until):
    """Return the report of a controller once a service port has so many requests; a report can be a second old."""

    def find(api_port, requests):
        def look():
            answer = get(api_port, path="/api/traffic")
            return answer.json if answer.status == 200 and count_requests(answer.json) == requests else None

        return wait_until(look, f"{requests} requests in the traffic")

    return find


def find_service(report, key=KEY):
    return next(each for each in report["services"] if each["key"] == key)


def count_requests(report, key=KEY):
    return find_service(report, key)["total"]["requests"]


@pytest.fixture
def web(manifests, build_service, start_upstream):
    """Put a service `web` with one server of pod `web-0`, and a service without traffic, into the manifests."""
    upstream = start_upstream("web-1")
    manifests.write("web.json", build_service("web", upstream.port, namespace="shop", account="web"))
    manifests.write("idle.json", build_service("idle", upstream.port, namespace="shop"))
    return upstream


@pytest.mark.parametrize("workers", [1, 3])
def test_up_reports_exactly_what_clients_sent(up, get, manifests, web, report, workers):
    mesh = up(manifests.path, "--workers", workers)
    for _ in range(12):
        assert get(mesh.http_port, "web.shop.maesh").status == 200
    web.status = 503
    for _ in range(4):
        assert get(mesh.http_port, "web.shop.maesh").status == 503
    assert get(mesh.http_port, "none.shop.maesh").status == 404
    found = report(mesh.api_port, 16)
    service = find_service(found)
    for window in (service["last"], service["total"]):
        assert (window["requests"], window["success"]) == (16, 0.75)
        assert sum(count for code, count in window["codes"].items() if code.startswith("5")) == 4
        assert window["rate"] == pytest.approx(16 / window["seconds"])
        assert 0 < window["total"]["p50"] <= window["total"]["p95"] <= window["total"]["p99"]
    assert 0 < found["intervalS"] < 71
    assert found["refused"] == {"404": 1}
    (server,), (caller,) = service["servers"], service["callers"]
    assert (server["pod"], caller["addresses"]) == ("shop/web-0", ["127.0.0.1"])
    for window in (server["last"], server["total"]):
        assert (window["codes"], window["success"]) == ({"2xx": 12, "5xx": 4}, 0.75)
        assert (window["receivedBytes"], window["sentBytes"]) == (0, service["total"]["sentBytes"])
        assert window["upstream"] == service["total"]["upstream"]  # all its requests came for this service
        assert window["upstream"]["p50"] > 0
    for window in (caller["last"], caller["total"]):
        assert (window["requests"], window["total"]) == (16, service["total"]["total"])
    assert find_service(found, "shop/idle:80")["total"]["requests"] == 0
    (node,) = found["nodes"]
    (known,) = get(mesh.api_port, path="/api/status/nodes").json
    assert (node["name"], node["revision"], node["error"]) == (known["name"], known["revision"], "")
    only = get(mesh.api_port, path="/api/traffic?service=shop/web").json
    assert [each["key"] for each in only["services"]] == [KEY]


def test_each_branch_of_a_split_has_percentiles_of_its_own(
    up, get, manifests, build_service, start_upstream, web, report
):
    """The slow version waits for 500 ms; the other one needs less even on a busy machine."""
    slow = start_upstream("web-v2")
    slow.delay_s = 0.5
    for name, server in (("web-v1", web), ("web-v2", slow)):
        manifests.write(f"{name}.json", build_service(name, server.port, namespace="shop"))
    split = {
        "apiVersion": "split.smi-spec.io/v1alpha4",
        "kind": "TrafficSplit",
        "metadata": {"name": "half", "namespace": "shop"},
        "spec": {"service": "web", "backends": [{"service": name, "weight": 1} for name in ("web-v1", "web-v2")]},
    }
    manifests.write("split.json", [split])
    mesh = up(manifests.path)
    for _ in range(8):
        assert get(mesh.http_port, "web.shop.maesh").status == 200
    branches = find_service(report(mesh.api_port, 8))["branches"]
    found = {each["destination"]: each["total"] for each in branches}
    assert found["shop/web-v2:80"]["requests"] == 4
    assert 0 < found["shop/web-v1:80"]["total"]["p50"] < 0.5 <= found["shop/web-v2:80"]["total"]["p50"]


def test_a_controller_sums_up_its_proxies_and_reports_one_that_is_gone(
    start_controller, start_proxy, get, manifests, web, report, free_port
):
    http_port, addresses, commands = free_port(), ("127.0.0.1", "127.0.0.2"), []
    _, api_port = start_controller(manifests.path, "--http-port", http_port, "--limit-http-port", 1)
    for number, address in enumerate(addresses):
        # Both serve the same entrypoint, so each binds an address of its own.
        command, _ = start_proxy(api_port, "--node", f"node-{number}", "--bind", address)
        commands.append(command)
    for address in addresses:
        for _ in range(5):
            request = urllib.request.Request(f"http://{address}:{http_port}/", headers={"Host": "web.shop.maesh"})
            with urllib.request.urlopen(request, timeout=60) as answer:
                assert answer.status == 200
    found = report(api_port, 10)
    assert [(node["name"], node["error"]) for node in found["nodes"]] == [("node-0", ""), ("node-1", "")]
    commands[1].process.kill()
    found = report(api_port, 5)
    assert [(node["name"], node["error"]) for node in found["nodes"]] == [
        ("node-0", ""),
        ("node-1", "the proxy cannot be reached"),
    ]


def test_proxies_that_share_a_name_are_told_as_soon_as_both_pull_again(
    start_controller, start_proxy, get, manifests, web, build_service, free_port, wait_until
):
    flags = ("--http-port", free_port(), "--limit-http-port", 1)
    _, api_port = start_controller(manifests.path, *flags)
    binds = ("127.0.0.1", "127.0.0.2")
    admin_ports = sorted(start_proxy(api_port, "--node", "edge", "--bind", bind)[1] for bind in binds)
    manifests.write("new.json", build_service("new", web.port, namespace="shop"))  # both pull again
    (condition,) = wait_until(lambda: get(api_port, path="/api/conditions").json, "a condition")
    addresses = ", ".join(f"127.0.0.1:{port}" for port in admin_ports)
    assert condition["problems"] == [f"edge: several proxies have this name: {addresses}"]
    assert wait_until(lambda: "several proxies" in read_error(get, api_port), "the error in the traffic")


def read_error(get, api_port):
    answer = get(api_port, path="/api/traffic")
    return answer.json["nodes"][0]["error"] if answer.status == 200 else ""


@pytest.fixture
def start_prometheus(program, free_port, tmp_path, wait_until, get):
    """Start the Prometheus of the system, which scrapes these admin ports every second; return its URL."""
    processes = []

    def start(*admin_ports):
        path, port = program("prometheus"), free_port()
        targets = ", ".join(f"'127.0.0.1:{each}'" for each in admin_ports)
        config = tmp_path / "prometheus.yml"
        config.write_text(
            "global: {scrape_interval: 1s, scrape_timeout: 1s}\n"
            f"scrape_configs: [{{job_name: maesh, static_configs: [{{targets: [{targets}]}}]}}]\n"
        )
        with (tmp_path / "prometheus.log").open("wb") as log:
            process = subprocess.Popen(
                [
                    path,
                    f"--config.file={config}",
                    f"--storage.tsdb.path={tmp_path / 'tsdb'}",
                    f"--web.listen-address=127.0.0.1:{port}",
                ],
                stdout=log,
                stderr=log,
            )
        processes.append(process)
        wait_until(lambda: get(port, path="/-/ready").status == 200, "Prometheus")
        return f"http://127.0.0.1:{port}"

    yield start
    for process in processes:
        process.kill()
        process.wait()


def compare_services(found, expected):
    """Check that a service of 26 requests, 5 of which failed, has the same traffic in both reports."""
    assert found["total"]["codes"] == expected["total"]["codes"]
    assert found["total"]["success"] == expected["total"]["success"] == pytest.approx(21 / 26)
    assert found["total"]["total"] == expected["total"]["total"]
    assert found["total"]["seconds"] > 0
    assert {name for name, value in found["total"].items() if value} == {
        name for name, value in expected["total"].items() if value
    }
    assert found["servers"][0]["pod"] == expected["servers"][0]["pod"] == "shop/web-0"
    for part in ("servers", "callers"):
        assert [each["total"] | {"seconds": 0, "rate": 0} for each in found[part]] == [
            each["total"] | {"seconds": 0, "rate": 0} for each in expected[part]
        ]
    assert found["servers"][0]["total"]["upstream"]["p99"] > 0
    assert found["callers"][0]["total"]["total"]["p99"] > 0


@pytest.mark.peer
def test_prometheus_gives_the_same_report(
    start_controller, start_proxy, start_prometheus, get, manifests, build_service, web, report, free_port, wait_until
):
    """The first controller asks the proxy, the second one Prometheus; both are read until they have seen everything."""
    http_port = free_port()
    tcp_port = free_port()
    flags = ("--http-port", http_port, "--limit-http-port", 1, "--tcp-port", tcp_port, "--limit-tcp-port", 1)
    manifests.write("db.json", build_service("db", web.port, namespace="shop", annotations={"traffic-type": "tcp"}))
    _, api_port = start_controller(manifests.path, *flags)
    _, admin_port = start_proxy(api_port, "--workers", 2)
    assert get(tcp_port).status == 200
    url = start_prometheus(admin_port)
    _, other_port = start_controller(manifests.path, *flags, "--prometheus", url)

    def send(count, status=200):
        web.status = status
        for _ in range(count):
            assert get(http_port, "web.shop.maesh").status == status

    send(1)
    send(1, status=503)
    assert get(http_port, "none.shop.maesh").status == 404
    report(other_port, 2)  # the counters exist; `increase` sees only what is counted from now on
    send(20)
    send(4, status=503)
    found, expected = find_service(report(other_port, 26)), find_service(report(api_port, 26))
    compare_services(found, expected)
    servers = [
        find_service(get(port, path="/api/traffic").json, "shop/db:80")["servers"] for port in (other_port, api_port)
    ]
    assert [each["total"]["connections"] for (each,) in servers] == [1, 1]
    assert len({(each["total"]["receivedBytes"], each["total"]["sentBytes"]) for (each,) in servers}) == 1
    last = wait_until(
        lambda: [
            window
            for window in [find_service(get(other_port, path="/api/traffic").json)["last"]]
            if window["requests"] >= 24
        ],
        "the last two minutes",
    )
    assert last[0]["seconds"] == 120
    assert 0 < last[0]["success"] < 1
    assert get(other_port, path="/api/traffic").json["refused"] == {"404": 1}


@pytest.mark.peer
def test_a_prometheus_without_proxies_or_that_is_gone_is_an_error_with_its_reason(
    start_controller, start_prometheus, get, manifests, web, free_port
):
    url = start_prometheus(free_port())
    _, api_port = start_controller(manifests.path, "--prometheus", url)
    answer = get(api_port, path="/api/traffic")
    assert (answer.status, answer.text) == (
        502,
        "Prometheus (--prometheus) has no metrics of a proxy; it must scrape them\n",
    )
    _, other_port = start_controller(manifests.path, "--prometheus", f"http://127.0.0.1:{free_port()}")
    answer = get(other_port, path="/api/traffic")
    assert (answer.status, answer.text) == (
        502,
        "Prometheus (--prometheus) cannot be reached: Connection refused\n",
    )


def test_a_prometheus_that_is_not_a_url_stops_the_start(start_maesh, manifests):
    command = start_maesh("controller", manifests.path, "--prometheus", "prometheus:9090")
    assert command.wait() == 1
    assert command.stderr.splitlines()[-1].endswith(
        "--prometheus: 'prometheus:9090' is not a URL such as http://prometheus.monitoring:9090"
    )
