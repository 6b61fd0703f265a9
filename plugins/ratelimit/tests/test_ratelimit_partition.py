"""Four nodes in network namespaces share a limit in Redis, and the network between some of them and Redis fails.

Buckets nearly never refill, so counts do not depend on time. Each client, which a header names, has its own bucket.
"""

import contextlib

import pytest

from maesh_testing import Upstream, build_environment, build_service, wait_until
from maesh_testing.commands import MAESH, Command
from maesh_testing.namespaces import open_network
from maesh_testing.running_mesh import Manifests

from .redis_servers import SERVER, run_redis

pytestmark = [
    pytest.mark.integration,
    pytest.mark.peer,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not SERVER, reason="neither redis-server nor valkey-server is installed"),
]
BURST = 24
NAMES = ("a", "b", "c", "d")
SHARE = BURST // len(NAMES)
HTTP_PORT, ADMIN_PORT, API_PORT, POD_PORT = 5000, 8080, 9000, 8000
HOST = "app.test.maesh"
ANNOTATIONS = {
    "ratelimit-average": "1",
    "ratelimit-burst": str(BURST),
    "ratelimit-period": "1h",
    "ratelimit-source": "header:X-Client",
    "ratelimit-store": "redis",
}


class FourNodes:
    """Four nodes with a proxy each, a machine with the controller and the server, and one with Redis."""

    def __init__(self, network, folder):
        self.network, self._folder = network, folder
        self.control, self.store = network.add_node("control"), network.add_node("store")
        self.nodes = {name: network.add_node(name) for name in NAMES}
        self.commands = {}

    def start(self, url):
        """Start the controller and the proxies, and wait until each knows of the four nodes that share the limits."""
        manifests = Manifests(self._folder / "manifests")
        servers = [(self.control.address, POD_PORT)]
        manifests.write("app.json", build_service("app", servers, annotations=ANNOTATIONS))
        api = ("--api-host", self.control.address, "--api-port", API_PORT, "--http-port", HTTP_PORT)
        self._start("control", self.control, "controller", *api, manifests.path)
        for name, node in self.nodes.items():
            self._start(
                *(name, node, "proxy", "--endpoint", f"http://{self.control.address}:{API_PORT}", "--workers", 1),
                *("--admin-host", node.address, "--admin-port", ADMIN_PORT, "--node", name),
                *("--set", f"ratelimit.redis-url={url}", "--set", "ratelimit.redis-timeout=5s"),
            )
        self.wait_for_stores(dict.fromkeys(NAMES, ("connected", len(NAMES))))

    def _start(self, key, node, *arguments):
        program = (*node.wrap(MAESH), *map(str, arguments))
        self.commands[key] = Command(program, self._folder / f"command-{key}", build_environment(self._folder))

    def count_admitted(self, name, client, requests):
        """Send requests of a client to the proxy of a node, and count those that reach the server."""
        node = self.nodes[name]
        headers = {"Host": HOST, "X-Client": client}
        statuses = [node.get(node.address, HTTP_PORT, headers=headers).status for _ in range(requests)]
        assert set(statuses) <= {200, 429}
        return statuses.count(200)

    def wait_for_stores(self, wanted):
        """Wait until the proxies report these states of the store, and numbers of nodes that share it."""
        for name, state in wanted.items():
            self.commands[name].wait_until(lambda name=name, state=state: self._read_store(name) == state, str(state))

    def _read_store(self, name):
        answer = self.nodes[name].get(self.nodes[name].address, ADMIN_PORT, "/reports/ratelimit")
        if answer.status != 200:
            return None
        found = [(each["state"], each["nodes"]) for worker in answer.json["workers"] for each in worker["stores"]]
        return found[0] if len(found) == 1 else None

    def has_logged(self, name, text):
        """Return whether the proxy of a node has logged a text."""
        return text in self.commands[name].stderr

    def read_nodes_without_redis(self):
        """Return the nodes that `/api/conditions` of the controller names, because they do not reach Redis."""
        conditions = self.control.get(self.control.address, API_PORT, "/api/conditions").json
        problems = next(each.get("problems", []) for each in conditions if each["id"] == "limit-stores")
        return sorted(text.partition(":")[0] for text in problems if " is away: " in text)

    def read_status(self):
        """Return what `maesh status` prints on the controller's machine."""
        words = (*MAESH, "status", "--endpoint", f"http://{self.control.address}:{API_PORT}")
        folder = self._folder / f"status-{len(list(self._folder.iterdir()))}"
        command = Command(self.control.wrap(words), folder, build_environment(self._folder))
        command.wait()
        return command.stdout

    def close(self):
        """End everything, and check that it ended well."""
        complaints = [complaint for command in reversed(self.commands.values()) for complaint in command.end()]
        assert not complaints, "\n".join(complaints)


@pytest.fixture
def mesh(namespaces, tmp_path):
    """Start the four nodes with a limit in Redis."""
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(open_network())
        mesh = FourNodes(network, tmp_path)
        redis = stack.enter_context(run_redis(tmp_path, node=mesh.store))
        server = mesh.control.call(lambda: Upstream("app", POD_PORT, mesh.control.address))
        stack.callback(server.close)
        stack.callback(mesh.close)
        mesh.start(redis.url)
        yield mesh


def test_a_limit_holds_on_both_sides_of_a_partition_and_is_exact_again_once_it_has_healed(mesh):
    assert sum(mesh.count_admitted(name, "before", 10) for name in NAMES) == BURST
    assert [mesh.count_admitted(name, "during", 2) for name in NAMES] == [2, 2, 2, 2]
    mesh.network.isolate(mesh.store, mesh.nodes["c"], mesh.nodes["d"])
    mesh.wait_for_stores({"a": ("connected", 2), "b": ("connected", 2), "c": ("away", 4), "d": ("away", 4)})
    assert [mesh.count_admitted(name, "during", 20) for name in ("c", "d")] == [SHARE, SHARE]
    assert sum(mesh.count_admitted(name, "during", 20) for name in ("a", "b")) == BURST - 8
    assert [name for name in NAMES if mesh.has_logged(name, "is away: no answer within 5 s")] == ["c", "d"]
    wait_until(lambda: mesh.read_nodes_without_redis() == ["c", "d"], "warnings of the controller")
    status = mesh.read_status()
    assert [name for name in NAMES if f"{name}: Redis at " in status] == ["c", "d"]
    mesh.network.heal()
    mesh.wait_for_stores(dict.fromkeys(NAMES, ("connected", len(NAMES))))
    wait_until(lambda: mesh.read_nodes_without_redis() == [], "no warning of the controller")
    assert [mesh.count_admitted(name, "during", 3) for name in NAMES] == [0, 0, 0, 0]
    assert sum(mesh.count_admitted(name, "after", 10) for name in reversed(NAMES)) == BURST
    assert [name for name in NAMES if mesh.has_logged(name, "answers again: limits hold for the whole mesh")] == [
        "c",
        "d",
    ]


def test_nodes_admit_the_limit_together_while_the_link_of_redis_is_down(mesh):
    mesh.store.run_ip("link", "set", "eth0", "down")
    mesh.wait_for_stores(dict.fromkeys(NAMES, ("away", len(NAMES))))
    assert [mesh.count_admitted(name, "during", 10) for name in NAMES] == [SHARE] * len(NAMES)
    mesh.store.run_ip("link", "set", "eth0", "up")
    mesh.wait_for_stores(dict.fromkeys(NAMES, ("connected", len(NAMES))))
    assert sum(mesh.count_admitted(name, "after", 10) for name in NAMES) == BURST
