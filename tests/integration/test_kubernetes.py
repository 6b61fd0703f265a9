"""The real commands in a cluster: from applied manifests to a request, and through what clusters do."""

import signal
import socket
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.integration

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
HOST = "whoami.whoami.maesh"


def build_slice(name, addresses, port, *, service="whoami", namespace="whoami", terminating=()):
    endpoints = [
        {
            "addresses": [address],
            "conditions": {
                "ready": address not in terminating,
                "serving": True,
                "terminating": address in terminating,
            },
        }
        for address in addresses
    ]
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": namespace, "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "ports": [{"name": "web", "port": port, "protocol": "TCP"}],
        "endpoints": endpoints,
    }


def build_service(name, *, namespace="whoami", traffic_type="http"):
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "annotations": {"maesh.containo.us/traffic-type": traffic_type},
        },
        "spec": {"selector": {"app": name}, "ports": [{"name": "web", "port": 80, "targetPort": "web"}]},
    }


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
def cluster(api_server, tmp_path):
    api_server.apply([build_namespace("maesh"), build_namespace("kube-system"), *build_core_dns()])
    api_server.kubeconfig = api_server.write_kubeconfig(tmp_path / "kubeconfig")
    return api_server


@pytest.fixture
def start_in_cluster(cluster, start_controller, free_port):
    """Start `maesh controller` in the cluster; gives the command, its API's port, and where it puts entrypoints."""

    def start(*arguments, http_port=None, port=None):
        http_port = http_port or free_port()
        options = ("--kubeconfig", cluster.kubeconfig, "--http-port", http_port, "--log-level", "info")
        command, api_port = start_controller(*options, *arguments, port=port)
        return command, api_port, http_port

    return start


def find_shadow(cluster, name, namespace="whoami"):
    return cluster.find("services", f"maesh-{name}-6d61657368-{namespace}", "maesh")


def list_targets(shadow):
    return {port["port"]: port["targetPort"] for port in shadow["spec"]["ports"]}


def test_from_applied_manifests_to_a_request(
    cluster, run_maesh, start_in_cluster, start_proxy, start_upstream, wait_until, get
):
    cluster.apply(list(yaml.safe_load_all((EXAMPLES / "whoami" / "whoami.yaml").read_text())))
    upstream = start_upstream("pod", "127.0.1.1")
    cluster.apply(build_slice("whoami-1", ["127.0.1.1"], upstream.port))

    prepared = run_maesh("prepare", "--kubeconfig", cluster.kubeconfig)
    assert prepared.status == 0, prepared.stderr
    corefile = cluster.get("configmaps", "coredns", "kube-system")["data"]["Corefile"]
    assert "maesh" in corefile
    _, api_port, http_port = start_in_cluster()
    start_proxy(api_port)

    shadow = wait_until(lambda: find_shadow(cluster, "whoami"), "a shadow service")
    assert list_targets(shadow) == {80: http_port}
    assert shadow["spec"]["selector"] == {"component": "maesh-mesh"}
    assert get(http_port, HOST).text == "pod"

    status = run_maesh("status", "--endpoint", f"http://127.0.0.1:{api_port}")
    assert status.status == 0, status.stdout + status.stderr
    assert "leads" in status.stdout
    cleaned = run_maesh("cleanup", "--kubeconfig", cluster.kubeconfig)
    assert cleaned.status == 0, cleaned.stderr
    restored = cluster.get("configmaps", "coredns", "kube-system")["data"]["Corefile"]
    assert restored == build_core_dns()[0]["data"]["Corefile"]


def test_a_tcp_service_is_reached_at_the_port_that_its_shadow_service_names(
    cluster, start_in_cluster, start_proxy, start_upstream, wait_until, free_port, get
):
    upstream = start_upstream("pod")
    cluster.apply([build_namespace("whoami"), build_service("db", traffic_type="tcp")])
    cluster.apply(build_slice("db-1", ["127.0.0.1"], upstream.port, service="db"))
    tcp_port = free_port()
    _, api_port, _ = start_in_cluster("--tcp-port", tcp_port, "--limit-tcp-port", 5)
    start_proxy(api_port)
    shadow = wait_until(lambda: find_shadow(cluster, "db"), "a shadow service")
    assert list_targets(shadow) == {80: tcp_port}
    wait_until(lambda: can_connect(tcp_port), "an entrypoint")
    assert get(tcp_port, "anything").text == "pod"


def can_connect(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def test_no_request_fails_while_pods_roll_that_serve_on_while_they_terminate(
    cluster, start_in_cluster, start_proxy, start_load, start_upstream
):
    addresses = [f"127.0.3.{number}" for number in range(1, 7)]
    first = start_upstream(addresses[0], addresses[0])
    upstreams = [first] + [type(first)(address, first.port, address) for address in addresses[1:]]
    cluster.apply([build_namespace("whoami"), build_service("whoami")])
    cluster.apply(build_slice("whoami-1", addresses[:2], first.port))
    _, api_port, http_port = start_in_cluster()
    start_proxy(api_port)
    load = start_load(http_port, HOST)
    for number in range(1, len(addresses) - 1):
        old, stays, new = addresses[number - 1 : number + 2]
        cluster.apply(build_slice("whoami-1", [old, stays, new], first.port))
        load.wait_until_seen(new)
        cluster.apply(build_slice("whoami-1", [old, stays, new], first.port, terminating=[old]))
        load.wait_for(300)
        upstreams[number - 1].close()
        cluster.apply(build_slice("whoami-1", [stays, new], first.port))
        load.wait_for(50)
    assert load.stop() == []
    for upstream in upstreams:
        upstream.close()


def test_an_api_server_that_is_away_under_traffic_and_changes_harms_nobody(
    cluster, start_in_cluster, start_proxy, start_load, start_upstream, wait_until
):
    blue, green = start_upstream("blue"), start_upstream("green")
    cluster.apply([build_namespace("whoami"), build_service("whoami"), build_service("gone")])
    cluster.apply(build_slice("whoami-1", ["127.0.0.1"], blue.port))
    _, api_port, http_port = start_in_cluster()
    start_proxy(api_port)
    wait_until(lambda: find_shadow(cluster, "gone"), "a shadow service")
    load = start_load(http_port, HOST)
    cluster.stop_listening()
    load.wait_for(200)
    cluster.apply(build_slice("whoami-1", ["127.0.0.1"], green.port))
    cluster.apply(build_service("fresh"))
    cluster.delete("services", "gone", "whoami")
    load.wait_for(200)
    cluster.compact()
    cluster.resume()
    load.wait_until_seen("green")
    wait_until(lambda: find_shadow(cluster, "fresh"), "the shadow service of what came meanwhile")
    wait_until(lambda: not find_shadow(cluster, "gone"), "the end of the shadow service of what went meanwhile")
    assert load.stop() == []


def test_a_lost_leader_is_replaced_and_no_client_notices(
    cluster, start_in_cluster, start_proxy, start_load, start_upstream, wait_until
):
    upstream = start_upstream("pod")
    cluster.apply([build_namespace("whoami"), build_service("whoami")])
    cluster.apply(build_slice("whoami-1", ["127.0.0.1"], upstream.port))
    leader, _, http_port = start_in_cluster()
    wait_until(lambda: find_shadow(cluster, "whoami"), "a shadow service")
    follower, api_port, _ = start_in_cluster(http_port=http_port)
    start_proxy(api_port)
    load = start_load(http_port, HOST)
    leader.stop(signal.SIGKILL)
    cluster.apply(build_service("fresh"))
    follower.wait_until(lambda: find_shadow(cluster, "fresh"), "another leader's work")
    assert load.stop() == []
    assert "leads now" in follower.stderr


def test_errors_are_told_as_events_on_the_objects_they_concern(cluster, start_in_cluster, wait_until):
    bad = build_service("bad")
    bad["metadata"]["annotations"]["maesh.containo.us/retry-attempts"] = "many"
    cluster.apply([build_namespace("whoami"), bad])
    start_in_cluster()
    (event,) = wait_until(lambda: cluster.list("events", "whoami"), "an Event")
    assert (event["involvedObject"]["kind"], event["involvedObject"]["name"]) == ("Service", "bad")
    assert event["involvedObject"]["uid"] == cluster.get("services", "bad", "whoami")["metadata"]["uid"]
    assert "retry-attempts" in event["message"]


def test_dns_is_put_back_when_an_operator_rewrites_it_and_left_alone_after_cleanup(
    cluster, run_maesh, start_in_cluster, wait_until
):
    def read_corefile():
        return cluster.get("configmaps", "coredns", "kube-system")["data"]["Corefile"]

    long_name = "a" * 60
    cluster.apply([build_namespace("whoami"), build_service(long_name)])
    original = read_corefile()
    _, api_port, _ = start_in_cluster()
    unprepared = run_maesh("status", "--endpoint", f"http://127.0.0.1:{api_port}")
    assert f"{long_name}.whoami: its name is too long for DNS" in unprepared.stdout
    assert read_corefile() == original, "nobody prepared this cluster"

    assert run_maesh("prepare", "--kubeconfig", cluster.kubeconfig).status == 0
    wait_until(lambda: long_name in read_corefile(), "a rule for the name that is too long")
    cluster.patch("configmaps", "coredns", {"data": {"Corefile": original}}, "kube-system")
    wait_until(lambda: long_name in read_corefile(), "the mesh's block again")
    assert "0 with errors" in run_maesh("status", "--endpoint", f"http://127.0.0.1:{api_port}").stdout

    assert run_maesh("cleanup", "--kubeconfig", cluster.kubeconfig).status == 0
    assert read_corefile() == original
