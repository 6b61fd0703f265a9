"""Real proxies and a real Redis: buckets that nearly never refill, so that counts do not depend on time."""

import contextlib
import http.client

import pytest

from maesh_testing import build_service, find_free_port, send_request, wait_until

from .redis_servers import SERVER, run_redis

pytestmark = [
    pytest.mark.integration,
    pytest.mark.peer,
    pytest.mark.slow,
    pytest.mark.skipif(not SERVER, reason="neither redis-server nor valkey-server is installed"),
]
LIMIT = {"ratelimit-average": "1", "ratelimit-burst": "12", "ratelimit-period": "1h", "ratelimit-source": "host"}


class Proxy:
    """A proxy on an address of its own."""

    def __init__(self, command, address, port, admin_port, api_port):
        self.command, self._address, self._port, self._admin_port = command, address, port, admin_port
        self._api_port = api_port

    def count_admitted(self, requests):
        """Send requests, and count those that are answered."""
        statuses = [self._send() for _ in range(requests)]
        assert set(statuses) <= {200, 429}
        return statuses.count(200)

    def _send(self):
        connection = http.client.HTTPConnection(self._address, self._port, timeout=60)
        with contextlib.closing(connection):
            connection.request("GET", "/", headers={"Host": "app.test.maesh"})
            return connection.getresponse().status

    def read_metric(self, line):
        """Return the value of a metric, None if there is none."""
        text = send_request(self._admin_port, path="/metrics").text
        found = [row.rpartition(" ")[2] for row in text.splitlines() if row.startswith(line + " ")]
        return float(found[0]) if found else None

    def read_state(self):
        """Return what its only worker reports of Redis: its state and the number of nodes."""
        report = send_request(self._admin_port, path="/reports/ratelimit").json
        (state,) = report["workers"][0]["stores"]
        return state["state"], state["nodes"]

    def read_problems(self):
        """Return what the controller says about the store."""
        conditions = send_request(self._api_port, path="/api/conditions").json
        return next(each.get("problems", []) for each in conditions if each["id"] == "limit-stores")

    def wait_for(self, line, value):
        """Wait until a metric has a value."""
        wait_until(lambda: self.read_metric(line) == value, f"{line} {value}")


NODES = "maesh_ratelimit_redis_nodes"
AWAY = 'maesh_ratelimit_redis_workers{state="away"}'
CONNECTED = 'maesh_ratelimit_redis_workers{state="connected"}'


@pytest.fixture
def start_proxies(start_maesh, start_upstream, manifests):
    """Start a controller with a limited service, and proxies that share one Redis."""

    def start(url, count=2, *flags, timeout="30s"):
        upstream = start_upstream("app")
        manifests.write("app.json", build_service("app", [(upstream.address, upstream.port)], annotations=LIMIT))
        port, api_port = find_free_port(), find_free_port()
        store = ["--set", "ratelimit.store=redis"]
        ports = ["--api-host", "127.0.0.1", "--api-port", api_port, "--http-port", port]
        start_maesh("controller", *ports, *store, manifests.path)
        flags = ("--set", f"ratelimit.redis-timeout={timeout}", *flags)
        return [start_proxy(f"127.0.0.{number + 2}", port, api_port, url, *flags) for number in range(count)]

    def start_proxy(address, port, api_port, url, *flags):
        admin_port = find_free_port()
        command = start_maesh(
            *("proxy", "--endpoint", f"http://127.0.0.1:{api_port}", "--bind", address, "--workers", "1"),
            *("--admin-host", "127.0.0.1", "--admin-port", admin_port, "--set", f"ratelimit.redis-url={url}"),
            *flags,
        )
        wait_until(lambda: is_ready(admin_port), "the proxy")
        return Proxy(command, address, port, admin_port, api_port)

    return start


def is_ready(admin_port):
    return send_request(admin_port, path="/ready").status == 200


def test_proxies_share_a_limit_and_each_has_its_part_of_it_while_redis_is_killed(start_proxies, tmp_path):
    with run_redis(tmp_path) as redis:
        first, second = start_proxies(redis.url)
        for proxy in (first, second):
            proxy.wait_for(CONNECTED, 1)
        assert [first.count_admitted(8), second.count_admitted(8), first.count_admitted(4)] == [8, 4, 0]
        for proxy in (first, second):
            proxy.wait_for(NODES, 2)
        redis.kill()
        for proxy in (first, second):
            proxy.wait_for(AWAY, 1)
            assert proxy.count_admitted(10) == 6
            assert "is away" in proxy.command.stderr
            assert proxy.read_state() == ("away", 2)
        wait_until(lambda: any(" is away: " in each for each in first.read_problems()), "a warning of the controller")
        redis.start()
        for proxy in (first, second):
            proxy.wait_for(AWAY, 0)
        wait_until(lambda: not first.read_problems(), "no warning of the controller")
        assert first.count_admitted(20) + second.count_admitted(20) == 12


def test_a_stopped_redis_delays_requests_no_longer_than_the_time_out(start_proxies, tmp_path):
    with run_redis(tmp_path) as redis:
        (proxy,) = start_proxies(redis.url, 1, timeout="1s")
        proxy.wait_for(CONNECTED, 1)
        assert proxy.count_admitted(2) == 2
        redis.freeze()
        assert proxy.count_admitted(20) == 12
        assert proxy.read_metric(AWAY) == 1
        redis.thaw()
        proxy.wait_for(AWAY, 0)
        assert proxy.count_admitted(20) in (9, 10)  # the answer that came too late had a token


def test_a_wrong_password_is_reported_and_each_node_limits_for_itself(start_proxies, tmp_path):
    password = tmp_path / "password"
    password.write_text("wrong")
    with run_redis(tmp_path, "--requirepass", "right") as redis:
        flags = ["--set", f"ratelimit.redis-password-file={password}", "--set", "ratelimit.nodes=3"]
        (proxy,) = start_proxies(redis.url, 1, *flags)
        assert proxy.count_admitted(20) == 4
        reason = "the server refuses the user or the password"
        proxy.command.wait_until(lambda: reason in proxy.command.stderr, reason)
        assert "wrong" not in proxy.command.stderr
        password.write_text("right")
        proxy.wait_for(AWAY, 0)
        assert proxy.count_admitted(20) == 12


def test_a_proxy_without_the_address_of_redis_refuses_the_routes(start_mesh):
    mesh = start_mesh("--set", "ratelimit.store=redis", annotations=LIMIT)
    assert mesh.get().status == 503
