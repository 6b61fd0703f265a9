"""The parts do their work with no more rights than the chart gives them, on command lines that it gives them."""

import http.client
from pathlib import Path

import pytest

from maesh_testing.commands import wait_until
from maesh_testing.ports import find_free_port

pytestmark = pytest.mark.integration

CRDS = Path(__file__).resolve().parents[2] / "charts" / "maesh" / "crds"
GATEWAY_CRDS = Path(__file__).resolve().parents[1] / "conformance" / "data" / "crds"
ACCOUNTS = {command: f"maesh/maesh-{command}" for command in ("controller", "prepare", "cleanup")}
COREFILE = ".:53 {\n    errors\n    kubernetes cluster.local in-addr.arpa ip6.arpa\n    forward . /etc/resolv.conf\n}\n"
NAMESPACES = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in ("maesh", "shop")]


def build_deployment(name, maps, *, is_optional=False):
    volumes = [{"name": each, "configMap": {"name": each, "optional": is_optional}} for each in maps]
    labels = {"k8s-app": name}
    pod = {"containers": [{"name": name, "image": f"registry.example/{name}:1.11.3"}], "volumes": volumes}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "kube-system"},
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}},
    }


def build_map(name, data):
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "kube-system"},
        "data": data,
    }


def build_service(name, annotations=None):
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "shop", "annotations": annotations or {}},
        "spec": {"ports": [{"port": 80}]},
    }


class Release:
    """The chart's objects, and its commands with the rights of their accounts."""

    def __init__(self, server, objects, permissions, start, folder):
        self.server = server
        self.objects = objects
        self._permissions = permissions(objects)
        self._start = start
        self._folder = folder

    def start(self, command, *more):
        token = self.server.add_token(command, user=command)
        grants = self._permissions.list_grants(ACCOUNTS[command])
        rules = [{**rule, "namespace": namespace} if namespace else rule for namespace, rule in grants]
        self.server.set_rules(token, rules)
        self.server.calls.clear()
        kubeconfig = self.server.write_kubeconfig(self._folder / command, token=token)
        return self._start(*self._find_arguments(command), "--kubeconfig", kubeconfig, *more)

    def _find_arguments(self, command):
        for each in self.objects:
            if each["metadata"]["name"] == f"maesh-{command}" and each["kind"] in ("Deployment", "Job"):
                return each["spec"]["template"]["spec"]["containers"][0]["args"]
        raise LookupError(command)

    def run(self, command):
        process = self.start(command)
        assert process.wait() == 0, process.stderr
        self.check(command)

    def check(self, command):
        """Hold that nothing was asked for that the account may not."""
        calls = [call for call in self.server.calls if not call.resource.startswith("/")]
        assert calls
        refused = [call for call in calls if not self._permissions.allows(ACCOUNTS[command], **call._asdict())]
        assert refused == []

    def run_controller(self):
        """Run a controller until it leads, has told of a bad service, and has a shadow for a good one."""
        port = find_free_port()
        process = self.start("controller", "--api-port", str(port))
        process.wait_until(lambda: ask(port) == 200, "readiness")
        self.server.apply([build_service("web"), build_service("bad", {"maesh.containo.us/scheme": "gopher"})])
        process.wait_until(lambda: len(self.list_shadows()) == 2, "shadow services")
        process.wait_until(lambda: self.server.list("events", "shop"), "an event")
        self.server.delete("services", "web", "shop")
        process.wait_until(lambda: not [name for name in self.list_shadows() if "web" in name], "its end")
        assert process.stop() == 0
        assert self.server.get("leases", "maesh-controller", "maesh")
        self.check("controller")

    def list_shadows(self):
        found = self.server.list("services", "maesh")
        return [
            each["metadata"]["name"] for each in found if each["metadata"].get("labels", {}).get("type") == "shadow"
        ]


def ask(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", "/api/status/readiness")
        return connection.getresponse().status
    except OSError:
        return None
    finally:
        connection.close()


@pytest.fixture
def release(api_server, render, permissions, start_maesh, tmp_path):
    api_server.apply(NAMESPACES)
    api_server.add_crds(CRDS)
    return lambda values: Release(api_server, render(values), permissions, start_maesh, tmp_path)


@pytest.mark.parametrize("values", [{}, {"acl": True}], ids=["defaults", "access-control"])
def test_a_release_lives_and_goes_where_coredns_is(values, release, api_server):
    found = release(values)
    api_server.apply([build_deployment("coredns", ["coredns"]), build_map("coredns", {"Corefile": COREFILE})])
    found.run("prepare")
    assert "maesh" in api_server.get("configmaps", "coredns", "kube-system")["data"]["Corefile"]
    found.run_controller()
    assert found.list_shadows() == ["maesh-bad-6d61657368-shop"]
    found.run("cleanup")
    assert found.list_shadows() == []
    assert api_server.get("configmaps", "coredns", "kube-system")["data"]["Corefile"] == COREFILE


def test_the_status_of_a_route_is_written_with_the_rights_of_the_chart(release, api_server):
    found = release({})
    api_server.add_crds(GATEWAY_CRDS)
    parent = {"group": "", "kind": "Service", "name": "web"}
    route = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"parentRefs": [parent], "rules": [{"backendRefs": [{"name": "web", "port": 80}]}]},
    }
    api_server.apply([build_service("web"), route])
    process = found.start("controller", "--api-port", str(find_free_port()))

    def list_conditions():
        parents = api_server.get("httproutes", "web", "shop").get("status", {}).get("parents", ())
        return [(each["type"], each["status"]) for entry in parents for each in entry["conditions"]]

    expected = [("Accepted", "True"), ("ResolvedRefs", "True")]
    process.wait_until(lambda: list_conditions() == expected, "a status")
    (entry,) = api_server.get("httproutes", "web", "shop")["status"]["parents"]
    assert entry["parentRef"] == parent
    assert entry["conditions"][0]["observedGeneration"] == 1
    api_server.patch("httproutes", "web", {"status": {"parents": []}}, "shop")
    process.wait_until(lambda: list_conditions() == expected, "the repaired status")
    api_server.apply(route | {"spec": {"parentRefs": [{**parent, "name": "gone"}]}})
    process.wait_until(lambda: list_conditions() == [("Accepted", "False")], "the status of a missing parent")
    api_server.apply(route | {"spec": {"parentRefs": [{"name": "gate"}]}})
    process.wait_until(lambda: list_conditions() == [], "no status")
    assert process.stop() == 0
    found.check("controller")


def test_a_release_lives_and_goes_behind_a_node_cache(release, api_server):
    found = release({})
    cache = build_deployment("node-local-dns", ["node-local-dns", "kube-dns"], is_optional=True)
    cache["kind"] = "DaemonSet"
    cache["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] = [
        {"name": "node-local-dns", "mountPath": "/etc/coredns"},
        {"name": "kube-dns", "mountPath": "/etc/kube-dns"},
    ]
    template = "cluster.local {\n    forward . __PILLAR__CLUSTER__DNS__\n}\n. {\n    forward . /etc/resolv.conf\n}\n"
    service = build_service("kube-dns")
    service["metadata"]["namespace"] = "kube-system"
    api_server.apply([build_deployment("coredns", ["coredns"]), build_map("coredns", {"Corefile": COREFILE}), service])
    api_server.apply([cache, build_map("node-local-dns", {"Corefile.base": template})])
    found.run("prepare")
    address = api_server.get("services", "kube-dns", "kube-system")["spec"]["clusterIP"]
    stubs = f'{{"maesh": ["{address}"], "traefik.mesh": ["{address}"]}}'
    assert api_server.get("configmaps", "kube-dns", "kube-system")["data"]["stubDomains"] == stubs
    api_server.delete("configmaps", "kube-dns", "kube-system")
    process = found.start("controller", "--api-port", str(find_free_port()))
    process.wait_until(lambda: api_server.find("configmaps", "kube-dns", "kube-system"), "stub domains put back")
    assert process.stop() == 0
    found.check("controller")
    assert api_server.get("configmaps", "kube-dns", "kube-system")["data"]["stubDomains"] == stubs
    found.run("cleanup")
    assert api_server.find("configmaps", "kube-dns", "kube-system") is None


def test_a_release_lives_and_goes_where_kube_dns_is(release, api_server):
    found = release({"kubedns": True})
    api_server.apply([build_deployment("kube-dns", ["kube-dns"], is_optional=True)])
    own = [each for each in found.objects if each["metadata"]["labels"]["component"] == "coredns"]
    namespaced = [each for each in own if each["kind"] in ("Deployment", "ConfigMap", "Service")]
    api_server.apply(namespaced)
    found.run("prepare")
    assert "maesh" in api_server.get("configmaps", "kube-dns", "kube-system")["data"]["stubDomains"]
    assert "maesh" in api_server.get("configmaps", "coredns", "maesh")["data"]["Corefile"]
    found.run_controller()
    for each in namespaced:  # Helm removes them before its hook runs
        api_server.delete(f"{each['kind'].lower()}s", "coredns", "maesh")
    found.run("cleanup")
    assert api_server.find("configmaps", "kube-dns", "kube-system") is None
    assert found.list_shadows() == []


def test_a_cluster_with_kube_dns_is_told_what_it_lacks(release, api_server):
    found = release({})
    api_server.apply([build_deployment("kube-dns", ["kube-dns"], is_optional=True)])
    process = found.start("prepare")
    assert process.wait() == 1
    assert "the chart's kubedns=true brings one" in process.stderr
    found.check("prepare")


def test_what_is_forbidden_is_noticed(release, api_server):
    found = release({})
    api_server.apply([build_deployment("coredns", ["elsewhere"]), build_map("elsewhere", {"Corefile": COREFILE})])
    process = found.start("prepare")
    assert process.wait() == 1
    assert wait_until(lambda: "forbidden" in process.stderr, "the reason")
    with pytest.raises(AssertionError):
        found.check("prepare")
