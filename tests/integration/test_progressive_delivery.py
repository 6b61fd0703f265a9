"""Releases by Flagger and Argo Rollouts with the manifests of docs/progressive-delivery.md, under traffic."""

import http.client
import itertools
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from .canary_controllers import Api, Flagger, Prometheus, RolloutByRoute, RolloutBySmi

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "progressive-delivery.md"
CRDS = (ROOT / "charts" / "maesh" / "crds", ROOT / "tests" / "conformance" / "data" / "crds")
HOST = "web.shop.maesh"
COOKIE = "flagger-cookie=LpsIaLdoNZ"
INTERVAL = "5s"
"""Of the queries, whose manifests say a minute."""


def read_manifests():
    """Read the manifests of the page, by kind and name."""
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    objects = [each for block in blocks for each in yaml.safe_load_all(block)]
    return {(each["kind"], each["metadata"]["name"]): each for each in objects}


MANIFESTS = read_manifests()
TEMPLATES = [each for (kind, _), each in MANIFESTS.items() if kind == "MetricTemplate"]


class Release:
    """A cluster with the service `web`, whose versions are servers of the test."""

    def __init__(self, server, build_slice):
        self.server, self._build_slice = server, build_slice
        self.api = Api(server.url, server.token)
        self.http_port = self.admin_port = 0
        self._numbers = itertools.count(1)

    def serve(self, service, *upstreams):
        """Let these servers be the ready pods of a service, as the endpoint slice controller does."""
        port = self.server.get("services", service, "shop")["spec"]["ports"][0]["name"]
        for number, each in enumerate(upstreams):
            name = f"{service}-{number}"
            found = self._build_slice(name, each.address, each.port, service=service, namespace="shop")
            self.server.apply({**found, "ports": [{**found["ports"][0], "name": port}]})
        for each in self.server.list("endpointslices", "shop"):
            labels, name = each["metadata"]["labels"], each["metadata"]["name"]
            number = int(name.rpartition("-")[2])
            if labels["kubernetes.io/service-name"] == service and number >= len(upstreams):
                self.server.delete("endpointslices", name, "shop")

    def add_service(self, name):
        spec = {"ports": [{"name": "web", "port": 80, "targetPort": "web"}]}
        metadata = {"name": name, "namespace": "shop"}
        self.server.apply({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})

    def count_answers(self, number, **headers):
        """Send requests over one connection; return the number of answers of each server, or of each failure."""
        try:
            return self._count_answers(number, headers)
        except ConnectionRefusedError:
            return {}  # the entrypoint is opened for the first service

    def count_share(self):
        """Send requests; return the share of the new version in percent, in steps of five."""
        seen = self.count_answers(20)
        return 5 * seen.get("new", 0) if seen.keys() <= {"old", "new"} else None

    def _count_answers(self, number, headers):
        seen = {}
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=60)
        for _ in range(number):
            connection.request("GET", "/", headers={"Host": HOST, **headers})
            response = connection.getresponse()
            text = response.read().decode()
            seen[text] = seen.get(text, 0) + 1
        connection.close()
        return seen


@pytest.fixture
def release(api_server, tmp_path, start_beside, start_proxy, build_slice):
    for folder in CRDS:
        api_server.add_crds(folder)
    for name in ("maesh", "shop"):
        api_server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    found = Release(api_server, build_slice)
    _, api_port, found.http_port = start_beside(api_server.write_kubeconfig(tmp_path / "kubeconfig"))
    _, found.admin_port = start_proxy(api_port)
    return found


@pytest.fixture
def prometheus(release, tmp_path, free_port, wait_until):
    """Run a Prometheus that scrapes the proxy every second."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not installed")
    job = {"job_name": "maesh", "static_configs": [{"targets": [f"127.0.0.1:{release.admin_port}"]}]}
    path, port = tmp_path / "prometheus.yml", free_port()
    path.write_text(yaml.safe_dump({"global": {"scrape_interval": "1s"}, "scrape_configs": [job]}))
    options = (f"--storage.tsdb.path={tmp_path / 'data'}", f"--web.listen-address=127.0.0.1:{port}")
    with (tmp_path / "prometheus.log").open("w") as log:
        process = subprocess.Popen([program, f"--config.file={path}", *options], stderr=log)
    found = Prometheus(f"http://127.0.0.1:{port}")

    def is_up():
        try:
            return found.query("up") == [1.0]
        except OSError:
            return False

    try:
        wait_until(is_up, "a scrape of the proxy")
        yield found
    finally:
        process.terminate()
        process.wait(60)


def build_canary(name, *, provider=None):
    """Return a Canary of the page, for metrics within a shorter interval and on a slow machine.

    It has another provider if one is named.
    """
    found = yaml.safe_load(yaml.safe_dump(MANIFESTS["Canary", name]))
    for metric in found["spec"]["analysis"]["metrics"]:
        metric["interval"] = INTERVAL
        if metric["name"] == "latency":
            metric["thresholdRange"]["max"] = 60
    if provider is not None:
        found["spec"]["provider"] = provider
    return found


def build_route_with_affinity():
    """Build what Flagger writes for `analysis.sessionAffinity` (pkg/router/gateway_api.go), with a weight of 50."""

    def refer(name, weight, **more):
        return {"group": "", "kind": "Service", "name": name, "port": 80, "weight": weight, **more}

    cookie = {"name": "Set-Cookie", "value": f"{COOKIE}; Max-Age=86400"}
    filters = [{"type": "ResponseHeaderModifier", "responseHeaderModifier": {"add": [cookie]}}]
    pattern = ".*{}.*{}.*".format(*COOKIE.split("="))
    header = {"type": "RegularExpression", "name": "Cookie", "value": pattern}
    sticky = {"matches": [{"headers": [header]}], "backendRefs": [refer("web-stable", 0), refer("web-canary", 100)]}
    rest = {"backendRefs": [refer("web-stable", 50), refer("web-canary", 50, filters=filters)]}
    route = MANIFESTS["HTTPRoute", "web"]
    return {**route, "spec": {**route["spec"], "rules": [sticky, rest]}}


def render_analysis():
    """Render the query of the page's AnalysisTemplate with the arguments of its Rollout."""
    steps = MANIFESTS["Rollout", "web"]["spec"]["strategy"]["canary"]["steps"]
    (step,) = [each for each in steps if "analysis" in each]
    (metric,) = MANIFESTS["AnalysisTemplate", "mesh-failures"]["spec"]["metrics"]
    query = metric["provider"]["prometheus"]["query"].replace("[1m]", f"[{INTERVAL}]")
    for argument in step["analysis"]["args"]:
        query = query.replace(f"{{{{args.{argument['name']}}}}}", argument["value"])
    return query


@pytest.mark.integration
def test_flagger_moves_a_route_step_by_step_while_the_metrics_hold_and_no_request_fails(
    release, prometheus, start_upstream, start_load, wait_until
):
    old, new = start_upstream("old", "127.0.51.1"), start_upstream("new", "127.0.51.2")
    flagger = Flagger(release.api, build_canary("web"), TEMPLATES, prometheus)
    flagger.reconcile()
    for service in (flagger.apex, flagger.primary):
        release.serve(service, old)
    wait_until(lambda: release.server.get("httproutes", "web", "shop").get("status"), "a status of the route")
    wait_until(lambda: release.count_answers(1) == {"old": 1}, "an answer")
    load = start_load(release.http_port, HOST)
    release.serve(flagger.canary, new)

    def advance_to(weight):
        """Let turns of the scheduler pass until the canary has a weight; meanwhile no check may fail for its value."""

        def check():
            flagger.advance()
            return flagger.get_weights()[1] == weight

        wait_until(check, f"the weight {weight}: {flagger.values}")

    flagger.failed_checks = -1000  # until two scrapes have seen the canary, there is no value
    advance_to(25)
    load.wait_until_seen("new")
    advance_to(50)
    assert flagger.values["failure-rate"] == [0.0]
    assert flagger.values["latency"][0] > 0
    wait_until(lambda: prometheus.query(render_analysis()) == [0.0], "a measurement of the AnalysisTemplate")
    wait_until(lambda: flagger.advance() == "Promoting", "the promotion")
    for service in (flagger.primary, flagger.apex):
        release.serve(service, new)
    load.wait_for(50)
    wait_until(lambda: flagger.advance() == "Succeeded", "the end of the release")
    assert flagger.get_weights() == (100, 0)
    wait_until(lambda: release.count_answers(10) == {"new": 10}, "answers of the promoted version alone")
    release.serve(flagger.canary)
    load.wait_for(50)
    assert load.stop() == []


@pytest.mark.integration
def test_flagger_rolls_back_a_split_whose_new_version_fails(release, prometheus, start_upstream, wait_until):
    old, new = start_upstream("old", "127.0.52.1"), start_upstream("new", "127.0.52.2")
    new.status = 500
    flagger = Flagger(release.api, build_canary("web-by-smi"), TEMPLATES, prometheus)
    flagger.reconcile()
    for service in (flagger.apex, flagger.primary):
        release.serve(service, old)
    release.serve(flagger.canary, new)
    wait_until(lambda: release.count_answers(8) == {"old": 8}, "answers of the old version")
    assert flagger.advance() == "Progressing"
    wait_until(lambda: release.count_answers(8).get("new") == 2, "a quarter for the new version")

    def measure():
        release.count_answers(20)
        return not flagger.check_metrics() and flagger.values["failure-rate"]

    assert wait_until(measure, "a measured failure rate") == [pytest.approx(100.0)]
    wait_until(lambda: flagger.advance() == "Failed", "the rollback")  # a conflict or an empty interval delays a turn
    assert flagger.get_weights() == (100, 0)
    wait_until(lambda: release.count_answers(8) == {"old": 8}, "no answer of the new version")


@pytest.mark.integration
def test_splits_of_every_version_that_the_controllers_write_are_applied_and_fail_no_request(
    release, start_upstream, start_load, wait_until
):
    old, new = start_upstream("old", "127.0.53.1"), start_upstream("new", "127.0.53.2")
    flagger = Flagger(release.api, build_canary("web-by-smi"))
    flagger.create_services()
    release.add_service("web-stable")
    for name, upstream in (("web", old), ("web-primary", old), ("web-stable", old), ("web-canary", new)):
        release.serve(name, upstream)
    wait_until(lambda: release.count_answers(1) == {"old": 1}, "an answer")
    load = start_load(release.http_port, HOST)
    for version in ("v1alpha1", "v1alpha2", "v1alpha3"):
        rollout = RolloutBySmi(release.api, MANIFESTS["Rollout", "web-by-smi"], version=version)
        for weight in (0, *rollout.weights, 100):
            rollout.set_weight(weight)
            wait_until(lambda weight=weight: release.count_share() == weight, f"the share {weight} by {version}")
        release.server.delete("trafficsplits", "web", "shop")
        flagger = Flagger(release.api, build_canary("web-by-smi", provider=f"smi:{version}"))
        flagger.create_route()
        wait_until(lambda: release.count_share() == 0, f"no share by {version}")
        flagger.set_weights(60, 40)
        assert flagger.get_weights() == (60, 40)
        wait_until(lambda: release.count_share() == 40, f"the share of Flagger by {version}")
        release.server.delete("trafficsplits", "web", "shop")
    assert load.stop() == []


@pytest.mark.integration
def test_the_gateway_plugin_of_argo_rollouts_moves_weights_and_adds_a_rule_by_header(
    release, start_upstream, start_load, wait_until, get
):
    old, new = start_upstream("old", "127.0.54.1"), start_upstream("new", "127.0.54.2")
    for name, upstream in (("web-stable", old), ("web-canary", new), ("web", old)):
        release.add_service(name)
        release.serve(name, upstream)
    wait_until(lambda: release.count_answers(1) == {"old": 1}, "an answer")
    load = start_load(release.http_port, HOST)
    release.server.apply(MANIFESTS["HTTPRoute", "web"])
    rollout = RolloutByRoute(release.api, MANIFESTS["Rollout", "web"])
    for weight in (0, *rollout.weights, 100, 0):
        rollout.set_weight(weight)
        wait_until(lambda weight=weight: release.count_share() == weight, f"the share {weight}")
    rollout.set_header("X-Canary", "yes")
    wait_until(lambda: release.count_answers(4, **{"X-Canary": "yes"}) == {"new": 4}, "the rule with the header")
    assert release.count_answers(4) == {"old": 4}
    rollout.set_weight(20)
    wait_until(lambda: release.count_answers(20) == {"old": 16, "new": 4}, "a share beside the rule")

    # The rules of Flagger's session affinity: whom the new version has answered stays with it.
    release.server.apply(build_route_with_affinity())
    wait_until(lambda: release.count_answers(4, Cookie=f"a=b; {COOKIE}") == {"new": 4}, "the rule with the cookie")
    for expected in (None, f"{COOKIE}; Max-Age=86400"):
        wait_until(
            lambda expected=expected: get(release.http_port, HOST).headers.get("Set-Cookie") == expected,
            f"an answer with the cookie {expected}",
        )
    assert load.stop() == []


def test_the_page_has_every_manifest_that_the_controllers_need():
    assert {kind for kind, _ in MANIFESTS} == {
        *("Canary", "MetricTemplate", "HTTPRoute", "Rollout", "AnalysisTemplate"),
    }
    for (kind, _), found in MANIFESTS.items():
        if kind == "Canary":
            named = {metric["templateRef"]["name"] for metric in found["spec"]["analysis"]["metrics"]}
            assert named <= {each["metadata"]["name"] for each in TEMPLATES}
