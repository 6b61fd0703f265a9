"""Every query of Grafana's dashboards, answered by a real Prometheus that scrapes the example shop."""

import json
import re
import shutil
import subprocess
import sys
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
import yaml

pytestmark = [pytest.mark.integration, pytest.mark.peer]

ROOT = Path(__file__).resolve().parents[2]
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in (ROOT / "charts/maesh/dashboards").glob("*.json")}
VARIABLES = {"$__rate_interval": "30s", "$service": "shop/payments:80", "$instance": ".*"}
WITHOUT_DATA = re.compile(
    r"maesh_(acl|tcp|udp|middleware|circuitbreaker)_|_(failed_responses|grpc_responses|cut_responses|answers|refused_requests)_total"
    r"|maesh_branch_|_blocking_calls_|_edge_connections_|_edge_denied_|outcome=\"failure\"|watch_synced|maesh_controller_findings"
    r"|shadow_service|dns_(failing|repairs)|maesh_controller_out_of_touch|maesh_(transport|tunnel|certificate|mtls)"
)
"""The queries of what does not happen in the shop: nothing is split or denied, and nothing else than HTTP is spoken."""


@pytest.fixture
def shop(free_port, wait_until, environment):
    """Run the example shop; gives the ports of its admin port and of its API."""
    admin, api = free_port(), free_port()
    options = ("--http-port", free_port(), "--admin-port", admin, "--api-port", api, "--limit-http-port", 1)
    command = [str(word) for word in (sys.executable, ROOT / "examples" / "run.py", "shop", *options)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    try:
        yield admin, api
    finally:
        process.terminate()
        assert process.wait(60) == 0


@pytest.fixture
def query(shop, tmp_path, free_port, wait_until):
    """Run a Prometheus that scrapes the shop every second; gives a function that answers a query."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not installed")
    jobs = [
        {"job_name": name, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
        for name, port in zip(("maesh", "maesh-controller"), shop, strict=True)
    ]
    configuration = tmp_path / "prometheus.yml"
    configuration.write_text(yaml.safe_dump({"global": {"scrape_interval": "1s"}, "scrape_configs": jobs}))
    port = free_port()
    options = (f"--storage.tsdb.path={tmp_path / 'data'}", f"--web.listen-address=127.0.0.1:{port}")
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen([program, f"--config.file={configuration}", *options], stderr=log)

    def ask(expression):
        for name, value in VARIABLES.items():
            expression = expression.replace(name, value)
        url = f"http://127.0.0.1:{port}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
        with urllib.request.urlopen(url, timeout=60) as response:
            return json.load(response)["data"]["result"]

    def is_there():
        try:
            return bool(ask('sum(rate(maesh_service_requests_total{service="$service"}[$__rate_interval])) > 0'))
        except OSError:
            return False

    try:
        wait_until(is_there, "the rate of the shop's requests")
        yield ask
    finally:
        process.terminate()
        process.wait(60)


def find_panel(dashboard, title):
    return next(panel for panel in DASHBOARDS[dashboard]["panels"] if panel["title"].startswith(title))


def test_every_query_has_data_and_the_failing_service_is_found(query, wait_until):
    targets = [
        (f"{name}: {panel['title']} {target['refId']}", target["expr"])
        for name, dashboard in DASHBOARDS.items()
        for panel in dashboard["panels"]
        for target in panel["targets"]
        if not WITHOUT_DATA.search(target["expr"])
    ]
    assert len(targets) > 50
    for name, expression in targets:
        wait_until(lambda expression=expression: query(expression), f"data of {name}: {expression}")
    failed = query(find_panel("overview", "Services, those")["targets"][0]["expr"])
    shares = {each["metric"]["service"]: float(each["value"][1]) for each in failed}
    assert len(shares) == 10
    assert {service for service, share in shares.items() if share > 0} == {"shop/payments:80"}
    servers = [query(target["expr"]) for target in find_panel("overview", "Servers with failures")["targets"]]
    assert [[each["metric"]["server"] for each in found] for found in servers] == [[], ["127.0.8.7:8807"], []]
