"""The queries of Grafana's dashboards about encryption, answered by a real Prometheus that scrapes two nodes."""

import re
from pathlib import Path

import pytest

from maesh_testing.prometheus import PROGRAM, read_queries, run_prometheus

from .two_nodes import ADDRESSES, MARKER, TOKENS

pytestmark = [pytest.mark.integration, pytest.mark.peer]

DASHBOARDS = Path(__file__).resolve().parents[3] / "charts" / "maesh" / "dashboards"
OF_NODES = re.compile(r"maesh_(mtls|tunnels?|certificate|transport)_|maesh_tunnels")
SERVICES = ("shop/web:80", "shop/raw:80")


@pytest.fixture
def prometheus(nodes, tmp_path):
    if not PROGRAM:
        pytest.skip("prometheus is not installed")
    proxies, controllers = [nodes.ports[node] for node in ADDRESSES], [nodes.ports["api"]]
    with run_prometheus(tmp_path / "prometheus", {"maesh": proxies, "maesh-controller": controllers}) as prometheus:
        yield prometheus


def test_every_query_about_encryption_has_an_answer(nodes, relay, prometheus):
    def act():
        nodes.get()
        with nodes.connect() as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            sock.recv(100)

    queries = [query for query in read_queries(DASHBOARDS) if OF_NODES.search(query.expression)]
    assert len(queries) > 10
    nodes.write("strict")
    nodes.start_controller()
    nodes.start_proxy("sender")
    nodes.start_proxy("receiver", token="not the token of the receiver")
    nodes.wait_for_certificate("sender")
    nodes.wait_for_certificate("receiver", "none")
    assert nodes.get().status == 503
    (nodes.folder / "token-receiver").write_text(TOKENS["receiver"])
    nodes.wait_for_certificate("receiver")
    nodes.commands["sender"].wait_until(lambda: nodes.get().text == MARKER, "an answer")
    prometheus.wait_for_answers(queries, SERVICES, act)
