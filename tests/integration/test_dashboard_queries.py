"""Every query of Grafana's dashboards, answered by a real Prometheus: in a shop, by all outcomes, and in a cluster.

What is asked of encrypted nodes is answered in the tests of the plugin mtls (test_mtls_dashboards.py).
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from maesh_testing import build_service
from maesh_testing.kubernetes.faults import FaultKind
from maesh_testing.prometheus import PROGRAM, read_queries, run_prometheus

from .scripted_mesh import CLIENTS, build_split, open_traffic

pytestmark = [pytest.mark.integration, pytest.mark.peer]

ROOT = Path(__file__).resolve().parents[2]
QUERIES = read_queries(ROOT / "charts" / "maesh" / "dashboards")
TROUBLE = ROOT / "tests" / "data" / "acme_trouble.py"
ENTRY_POINT = "[maesh.plugins]\ntrouble = acme_trouble:PLUGIN\n"

OF_NODES = re.compile(r"maesh_(mtls|tunnels?|certificate|transport)_|maesh_tunnels")
OF_CLUSTERS = re.compile(r"watch_synced|out_of_touch|shadow_service|dns_(failing|repairs)")
OF_SHOPS = re.compile(r"servers_aside")
"""What only happens there; everything else does in the scripted traffic."""


def select(pattern):
    return [query for query in QUERIES if pattern.search(query.expression)]


def build_namespace(name):
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


@pytest.fixture
def start_prometheus(tmp_path):
    if not PROGRAM:
        pytest.skip("prometheus is not installed")

    def start(*, proxies=(), controllers=()):
        return run_prometheus(tmp_path / "prometheus", {"maesh": proxies, "maesh-controller": controllers})

    return start


@pytest.fixture
def shop(free_port, wait_until, environment):
    """Run the example shop; return the ports of its admin port and of its API."""
    admin, api = free_port(), free_port()
    options = ("--http-port", free_port(), "--admin-port", admin, "--api-port", api, "--limit-http-port", 1)
    command = [str(word) for word in (sys.executable, ROOT / "examples" / "run.py", "shop", *options)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    try:
        yield admin, api
    finally:
        process.terminate()
        assert process.wait(60) == 0


def find_queries(*places):
    return [next(query.expression for query in QUERIES if query.place.startswith(place)) for place in places]


def test_the_failing_service_and_server_of_the_shop_are_found(shop, start_prometheus, wait_until):
    admin, api = shop
    with start_prometheus(proxies=[admin], controllers=[api]) as prometheus:
        prometheus.wait_for_answers(select(OF_SHOPS), ["shop/payments:80"])
        (services,) = find_queries("overview: Services, those with most failures first A")
        failed = wait_until(lambda: len(found := prometheus.ask(services)) == 10 and found, "the rates of all services")
        shares = {each["metric"]["service"]: float(each["value"][1]) for each in failed}
        assert {service for service, share in shares.items() if share > 0} == {"shop/payments:80"}
        servers = find_queries(*(f"overview: Servers with failures {name}" for name in "ABC"))

        def find_failing():
            return [[each["metric"]["server"] for each in prometheus.ask(query)] for query in servers]

        # A rate needs two scrapes, and these counters begin later than those of the services.
        wait_until(lambda: find_failing() == [[], ["127.0.8.7:8807"], []], "the server that fails, and no other")


def install_trouble(folder):
    """Install the plugin that raises and blocks; returns what a command needs to find it."""
    metadata = folder / "acme_trouble-1.0.dist-info"
    metadata.mkdir(parents=True)
    shutil.copy(TROUBLE, folder)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-trouble\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(ENTRY_POINT)
    return {"PYTHONPATH": str(folder)}


def test_every_query_about_traffic_has_an_answer(start_mesh, start_prometheus, free_port, tmp_path):
    elsewhere = {*select(OF_NODES), *select(OF_CLUSTERS), *select(OF_SHOPS)}
    queries = [query for query in QUERIES if query not in elsewhere]
    assert len(queries) > 100
    env = install_trouble(tmp_path / "site")
    troubled = build_service("troubled", [("127.0.0.1", free_port())], annotations={"trouble": "yes"})
    others = [*troubled, build_split("lost", "gone", "app")]
    with open_traffic(start_mesh, tmp_path, "--trouble", others=others, env=env) as traffic:
        mesh = traffic.mesh
        described = json.loads(mesh.command.stdout)
        services = [f"test/{service['name']}:{port['port']}" for service in described for port in service["ports"]]
        with start_prometheus(proxies=[mesh.admin_port], controllers=[mesh.api_port]) as prometheus:

            def act():
                servers = [("127.0.0.1", free_port())]
                mesh.manifests.write("changing.json", build_service("changing", servers))
                traffic.run_round(CLIENTS[0])
                traffic.use_datagrams()
                for path in ("/raise", "/block"):
                    mesh.get(path, host="troubled.test.maesh")

            prometheus.wait_for_answers(queries, services, act)


def test_every_query_about_clusters_has_an_answer(api_server, start_beside, start_prometheus, tmp_path):
    queries = select(OF_CLUSTERS)
    assert len(queries) >= 5
    api_server.apply([build_namespace("maesh"), build_namespace("kube-system"), build_namespace("test")])
    api_server.apply(build_service("web"))
    api_server.add_crds(ROOT / "charts" / "maesh" / "crds")
    _, api_port, _ = start_beside(api_server.write_kubeconfig(tmp_path / "kubeconfig"))
    with start_prometheus(controllers=[api_port]) as prometheus:
        for verb in ("list", "watch"):
            api_server.add_fault(FaultKind.STATUS, verb=verb, resource="trafficsplits", status=403, count=None)
        api_server.end_watches("trafficsplits")
        prometheus.wait_for_answers(queries)
