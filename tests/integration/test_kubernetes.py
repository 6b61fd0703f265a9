"""The real commands against an API server that fails, is away, and has a DNS to patch."""

from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.integration

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
CRDS = EXAMPLES.parent / "charts" / "maesh" / "crds"
HOST = "whoami.whoami.maesh"


def find_shadow(server, name):
    return server.find("services", f"maesh-{name}-6d61657368-whoami", "maesh")


def build_namespace(name):
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def build_core_dns():
    """Build what kubeadm installs, as far as the mesh looks at it."""
    corefile = (
        ".:53 {\n    errors\n    kubernetes cluster.local in-addr.arpa ip6.arpa\n    forward . /etc/resolv.conf\n}\n"
    )
    pod = {
        "containers": [{"name": "coredns", "image": "registry.k8s.io/coredns/coredns:v1.11.1"}],
        "volumes": [{"name": "config-volume", "configMap": {"name": "coredns"}}],
    }
    metadata = {"name": "coredns", "namespace": "kube-system", "labels": {"k8s-app": "kube-dns"}}
    selector = {"k8s-app": "kube-dns"}
    template = {"metadata": {"labels": selector}, "spec": pod}
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "coredns", "namespace": "kube-system"},
            "data": {"Corefile": corefile},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {"selector": {"matchLabels": selector}, "template": template},
        },
    ]


@pytest.fixture
def server(api_server, tmp_path):
    """Return the API server of the tests with what kubeadm installs; its faults are the test's to set."""
    api_server.apply([build_namespace("maesh"), build_namespace("kube-system"), *build_core_dns()])
    api_server.kubeconfig = api_server.write_kubeconfig(tmp_path / "kubeconfig")
    return api_server


def test_objects_without_effect_and_objects_that_cannot_be_read_have_events(server, start_beside, wait_until, get):
    server.apply(build_namespace("shop"))
    server.add_crds(CRDS)
    split = {"apiVersion": "split.smi-spec.io/v1alpha4", "kind": "TrafficSplit"}
    group = {"apiVersion": "specs.smi-spec.io/v1alpha4", "kind": "HTTPRouteGroup"}
    server.apply(
        [
            {**split, "metadata": {"name": "lost", "namespace": "shop"}, "spec": {"service": "gone", "backends": []}},
            {
                **group,
                "metadata": {"name": "odd", "namespace": "shop"},
                "spec": {"matches": [{"name": "all", "pathRegexp": "/"}]},
            },
            {
                **group,
                "metadata": {"name": "unused", "namespace": "shop"},
                "spec": {"matches": [{"name": "all", "pathRegex": "/"}]},
            },
        ]
    )
    _, api_port, _ = start_beside(server.kubeconfig)
    events = wait_until(lambda: (found := server.list("events", "shop")) and len(found) == 3 and found, "three Events")
    found = {event["involvedObject"]["name"]: event for event in events}
    assert {name: (event["type"], event["reason"]) for name, event in found.items()} == {
        "lost": ("Warning", "MeshError"),
        "odd": ("Warning", "MeshError"),
        "unused": ("Normal", "MeshNotice"),
    }
    assert found["lost"]["message"] == "there is no service gone in namespace shop"
    for name, plural in (("lost", "trafficsplits"), ("odd", "httproutegroups"), ("unused", "httproutegroups")):
        uid = server.find(plural, name, "shop")["metadata"]["uid"]
        assert found[name]["involvedObject"]["uid"] == uid
    reports = {each["name"]: each for each in get(api_port, path="/api/objects").json}
    assert reports["lost"]["origin"] == "kubernetes"
    assert reports["odd"]["origin"] == "kubernetes httproutegroups odd@shop"


def test_from_applied_manifests_to_a_request(
    server, run_maesh, start_beside, start_proxy, start_upstream, wait_until, get, build_slice
):
    server.apply(list(yaml.safe_load_all((EXAMPLES / "whoami" / "whoami.yaml").read_text())))
    upstream = start_upstream("pod", "127.0.1.1")
    server.apply(build_slice("whoami-1", "127.0.1.1", upstream.port, namespace="whoami"))

    prepared = run_maesh("prepare", "--kubeconfig", server.kubeconfig)
    assert prepared.status == 0, prepared.stderr
    corefile = server.get("configmaps", "coredns", "kube-system")["data"]["Corefile"]
    assert "maesh" in corefile
    _, api_port, http_port = start_beside(server.kubeconfig)
    start_proxy(api_port)

    shadow = wait_until(lambda: find_shadow(server, "whoami"), "a shadow service")
    assert [port["targetPort"] for port in shadow["spec"]["ports"]] == [http_port]
    assert shadow["spec"]["selector"] == {"component": "maesh-mesh"}
    assert get(http_port, HOST).text == "pod"
    own = server.get("services", "whoami", "whoami")
    for host in (shadow["spec"]["clusterIP"], own["spec"]["clusterIP"], "whoami.whoami.svc.cluster.local"):
        wait_until(lambda host=host: get(http_port, host).text == "pod", f"the service at {host}")
    explained = run_maesh(
        *("explain", "127.0.0.1", shadow["spec"]["clusterIP"], "--endpoint", f"http://127.0.0.1:{api_port}")
    )
    assert explained.status == 0, explained.stdout + explained.stderr
    assert "service whoami/whoami, port 80" in explained.stdout

    status = run_maesh("status", "--endpoint", f"http://127.0.0.1:{api_port}")
    assert status.status == 0, status.stdout + status.stderr
    assert "leader" in status.stdout
    cleaned = run_maesh("cleanup", "--kubeconfig", server.kubeconfig)
    assert cleaned.status == 0, cleaned.stderr
    restored = server.get("configmaps", "coredns", "kube-system")["data"]["Corefile"]
    assert restored == build_core_dns()[0]["data"]["Corefile"]


def test_an_unreachable_api_server_affects_neither_traffic_nor_later_changes(
    server, start_beside, start_proxy, start_load, start_upstream, wait_until, build_user_service, build_slice
):
    blue, green = start_upstream("blue"), start_upstream("green")
    server.apply(
        [
            build_namespace("whoami"),
            build_user_service("whoami", namespace="whoami"),
            build_user_service("gone", namespace="whoami"),
        ]
    )
    server.apply(build_slice("whoami-1", "127.0.0.1", blue.port, namespace="whoami"))
    _, api_port, http_port = start_beside(server.kubeconfig)
    start_proxy(api_port)
    wait_until(lambda: find_shadow(server, "gone"), "a shadow service")
    load = start_load(http_port, HOST)
    server.stop_listening()
    load.wait_for(200)
    server.apply(build_slice("whoami-1", "127.0.0.1", green.port, namespace="whoami"))
    server.apply(build_user_service("fresh", namespace="whoami"))
    server.delete("services", "gone", "whoami")
    load.wait_for(200)
    server.compact()
    server.resume()
    load.wait_until_seen("green")
    wait_until(lambda: find_shadow(server, "fresh"), "the shadow service of what came meanwhile")
    wait_until(lambda: not find_shadow(server, "gone"), "the end of the shadow service of what went meanwhile")
    assert load.stop() == []


def test_dns_is_put_back_when_an_operator_rewrites_it_and_left_alone_after_cleanup(
    server, run_maesh, start_beside, wait_until, build_user_service
):
    def read_corefile():
        return server.get("configmaps", "coredns", "kube-system")["data"]["Corefile"]

    long_name = "a" * 60
    server.apply([build_namespace("whoami"), build_user_service(long_name, namespace="whoami")])
    original = read_corefile()
    _, api_port, _ = start_beside(server.kubeconfig)
    unprepared = run_maesh("status", "--endpoint", f"http://127.0.0.1:{api_port}")
    assert f"{long_name}.whoami: its name is too long for DNS" in unprepared.stdout
    assert read_corefile() == original, "nobody prepared this cluster"

    assert run_maesh("prepare", "--kubeconfig", server.kubeconfig).status == 0
    wait_until(lambda: long_name in read_corefile(), "a rule for the name that is too long")
    server.patch("configmaps", "coredns", {"data": {"Corefile": original}}, "kube-system")
    wait_until(lambda: long_name in read_corefile(), "the mesh's block again")
    assert "0 with errors" in run_maesh("status", "--endpoint", f"http://127.0.0.1:{api_port}").stdout

    assert run_maesh("cleanup", "--kubeconfig", server.kubeconfig).status == 0
    assert read_corefile() == original
