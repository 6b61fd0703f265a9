"""The chart's NetworkPolicies admit to the pods of the mesh what is needed, and nothing else."""

from pathlib import Path

import pytest
import yaml

CASES = yaml.safe_load(Path(__file__).with_name("cases.yaml").read_text())
CASE = CASES["network-policies-with-encryption"]
PROXY, CONTROLLER = ({"app": "maesh", "component": each, "release": "maesh"} for each in ("maesh-mesh", "controller"))
PROMETHEUS = {"app": "prometheus"}
MESH, MONITORING, SHOP = ({"kubernetes.io/metadata.name": each} for each in ("maesh", "monitoring", "shop"))


@pytest.fixture
def admits(render):
    """Return the function that says whether a pod of the mesh accepts a connection, as Kubernetes defines it."""

    def decide(values, target, port, *, labels, namespace, protocol="TCP"):
        policies = [each for each in render(values) if each["kind"] == "NetworkPolicy"]
        chosen = [each for each in policies if each["spec"]["podSelector"]["matchLabels"].items() <= target.items()]
        rules = [rule for each in chosen for rule in each["spec"]["ingress"]]
        return not chosen or any(has_port(rule, port, protocol) and has_peer(rule, labels, namespace) for rule in rules)

    return decide


def has_port(rule, port, protocol):
    return any(
        each["port"] <= port <= each.get("endPort", each["port"]) and each["protocol"] == protocol
        for each in rule["ports"]
    )


def has_peer(rule, labels, namespace):
    return "from" not in rule or any(is_peer(each, labels, namespace) for each in rule["from"])


def is_peer(peer, labels, namespace):
    if "ipBlock" in peer:
        return False
    place = peer.get("namespaceSelector", {}).get("matchLabels", MESH)
    return (
        place.items() <= namespace.items()
        and peer.get("podSelector", {}).get("matchLabels", {}).items() <= labels.items()
    )


def test_without_the_value_there_is_no_policy(render):
    assert not [each for each in render(CASES["encryption"]) if each["kind"] == "NetworkPolicy"]


@pytest.mark.parametrize(
    "protocol_and_port", [("TCP", 5000), ("TCP", 5099), ("TCP", 10999), ("UDP", 15000), ("UDP", 15999)]
)
def test_every_client_reaches_the_entrypoints(protocol_and_port, admits):
    protocol, port = protocol_and_port
    assert admits(CASE, PROXY, port, protocol=protocol, labels={"app": "shop"}, namespace=SHOP)


@pytest.mark.parametrize("port", [4999, 5100, 8080, 9999, 11000, 15008, 15000])
def test_no_other_port_of_a_proxy_is_for_every_client(port, admits):
    assert not admits(CASE, PROXY, port, labels={"app": "shop"}, namespace=SHOP)


def test_without_udp_there_are_no_entrypoints_for_it(admits):
    assert not admits(CASES["network-policies"], PROXY, 15000, protocol="UDP", labels={}, namespace=SHOP)


def test_only_proxies_reach_the_tunnels_of_proxies(admits):
    assert admits(CASE, PROXY, 15008, labels=PROXY, namespace=MESH)
    assert not admits(CASE, PROXY, 15008, labels=CONTROLLER, namespace=MESH)
    assert not admits(CASE, PROXY, 15008, labels=PROXY, namespace=SHOP), "labels alone are not enough"
    assert not admits(CASES["network-policies"], PROXY, 15008, labels=PROXY, namespace=MESH)


def test_controllers_and_prometheus_reach_the_admin_port(admits):
    assert admits(CASE, PROXY, 8080, labels=CONTROLLER, namespace=MESH)
    assert admits(CASE, PROXY, 8080, labels=PROMETHEUS, namespace=MONITORING)
    assert not admits(CASE, PROXY, 8080, labels={"app": "other"}, namespace=MONITORING)
    assert not admits(CASE, PROXY, 8080, labels=PROXY, namespace=MESH)


def test_proxies_controllers_and_those_that_values_name_reach_the_api(admits, render):
    for labels in (PROXY, CONTROLLER):
        assert admits(CASE, CONTROLLER, 9000, labels=labels, namespace=MESH)
        assert not admits(CASE, CONTROLLER, 9000, labels=labels, namespace=SHOP)
    assert admits(CASE, CONTROLLER, 9000, labels=PROMETHEUS, namespace=MONITORING)
    assert not admits(CASE, CONTROLLER, 9000, labels={"app": "shop"}, namespace=SHOP)
    policies = {each["metadata"]["name"]: each for each in render(CASE) if each["kind"] == "NetworkPolicy"}
    assert {"ipBlock": {"cidr": "10.0.0.0/24"}} in policies["maesh-controller"]["spec"]["ingress"][0]["from"]


def test_the_policies_restrict_only_what_comes_in(render):
    policies = [each for each in render(CASE) if each["kind"] == "NetworkPolicy"]
    assert [each["spec"]["policyTypes"] for each in policies] == [["Ingress"], ["Ingress"]]
