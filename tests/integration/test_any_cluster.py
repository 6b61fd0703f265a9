"""The real commands in any cluster: that of KUBECONFIG, or the API server of the tests where there is none."""

import os
import signal
import socket
from pathlib import Path

import pytest

from maesh_testing.cluster import Cluster, find_own_address

pytestmark = [pytest.mark.integration, pytest.mark.cluster]


@pytest.fixture
def cluster(request, tmp_path):
    """Return the cluster that KUBECONFIG names, else the API server of the tests."""
    kubeconfig = os.environ.get("KUBECONFIG")
    if kubeconfig:
        found = Cluster(Path(kubeconfig), address=find_own_address())
    else:
        server = request.getfixturevalue("api_server")
        found = Cluster(server.write_kubeconfig(tmp_path / "kubeconfig"), address="127.0.0.1")
    yield found
    found.close()


@pytest.fixture
def start_in_cluster(cluster, start_beside):
    """Start `maesh controller` for the cluster, for the test's namespaces alone."""

    def start(*arguments, **options):
        namespaces = ("--namespace", cluster.mesh_namespace, "--watch-namespaces", cluster.namespace)
        return start_beside(cluster.kubeconfig, *namespaces, *arguments, **options)

    return start


def list_targets(shadow):
    return {port["port"]: port["targetPort"] for port in shadow["spec"]["ports"]}


def name_host(cluster, service="whoami"):
    return f"{service}.{cluster.namespace}.maesh"


def test_a_request_reaches_a_pod_by_what_the_cluster_holds(
    cluster, start_in_cluster, start_proxy, start_upstream, wait_until, get, build_slice, build_user_service
):
    upstream = start_upstream("pod", cluster.address)
    cluster.apply([build_user_service("whoami"), build_slice("whoami-1", cluster.address, upstream.port)])
    _, api_port, http_port = start_in_cluster()
    start_proxy(api_port)
    shadow = wait_until(lambda: cluster.find_shadow("whoami"), "a shadow service")
    assert list_targets(shadow) == {80: http_port}
    assert shadow["spec"]["selector"] == {"component": "maesh-mesh"}
    assert get(http_port, name_host(cluster)).text == "pod"
    cluster.patch(
        "services", shadow["metadata"]["name"], {"spec": {"selector": {"component": "mine"}}}, cluster.mesh_namespace
    )
    wait_until(
        lambda: cluster.find_shadow("whoami")["spec"]["selector"] == {"component": "maesh-mesh"},
        "a shadow service that somebody edited to be put right",
    )
    cluster.delete("services", "whoami")
    wait_until(lambda: cluster.find_shadow("whoami") is None, "the end of the shadow service")


def test_a_tcp_service_is_reached_at_the_port_that_its_shadow_service_names(
    cluster, start_in_cluster, start_proxy, start_upstream, wait_until, free_port, get, build_slice, build_user_service
):
    upstream = start_upstream("pod", cluster.address)
    cluster.apply(build_user_service("db", traffic_type="tcp"))
    cluster.apply(build_slice("db-1", cluster.address, upstream.port, service="db"))
    tcp_port = free_port()
    _, api_port, _ = start_in_cluster("--tcp-port", tcp_port, "--limit-tcp-port", 5)
    start_proxy(api_port)
    shadow = wait_until(lambda: cluster.find_shadow("db"), "a shadow service")
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
    cluster, start_in_cluster, start_proxy, start_load, start_upstream, build_slice, build_user_service
):
    upstreams = [start_upstream(f"pod-{number}", cluster.address) for number in range(6)]
    slices = [build_slice(each.name, each.address, each.port) for each in upstreams]
    cluster.apply([build_user_service("whoami"), *slices[:2]])
    _, api_port, http_port = start_in_cluster()
    start_proxy(api_port)
    load = start_load(http_port, name_host(cluster))
    for number in range(len(upstreams) - 2):
        old, new = upstreams[number], upstreams[number + 2]
        cluster.apply(slices[number + 2])
        load.wait_until_seen(new.name)
        cluster.apply(build_slice(old.name, old.address, old.port, is_terminating=True))
        load.wait_for_seconds(1.0)
        old.close()
        cluster.delete("endpointslices", old.name)
    assert load.stop() == []


def test_a_lost_leader_is_replaced_and_no_client_notices(
    cluster, start_in_cluster, start_proxy, start_load, start_upstream, wait_until, build_slice, build_user_service
):
    upstream = start_upstream("pod", cluster.address)
    cluster.apply([build_user_service("whoami"), build_slice("whoami-1", cluster.address, upstream.port)])
    leader, _, http_port = start_in_cluster()
    wait_until(lambda: cluster.find_shadow("whoami"), "a shadow service")
    follower, api_port, _ = start_in_cluster(http_port=http_port)
    start_proxy(api_port)
    load = start_load(http_port, name_host(cluster))
    leader.stop(signal.SIGKILL)
    cluster.apply(build_user_service("fresh"))
    follower.wait_until(lambda: cluster.find_shadow("fresh"), "another leader's work")
    assert load.stop() == []
    assert "leads now" in follower.stderr


def test_errors_become_events_on_the_objects_they_concern(cluster, start_in_cluster, wait_until, build_user_service):
    bad = build_user_service("bad")
    bad["metadata"]["annotations"]["maesh.containo.us/retry-attempts"] = "many"
    cluster.apply(bad)
    start_in_cluster()
    (event,) = wait_until(lambda: cluster.list("events"), "an Event")
    assert (event["involvedObject"]["kind"], event["involvedObject"]["name"]) == ("Service", "bad")
    assert event["involvedObject"]["uid"] == cluster.find("services", "bad")["metadata"]["uid"]
    assert "retry-attempts" in event["message"]
