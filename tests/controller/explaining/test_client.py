"""Who asks is found by every spelling of a pod's name and of an address; who is not there is said so."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.controller.explaining.client import (
    Client,
    TopologyPods,
    find_client,
    find_client_namespace,
    is_plain_name,
    parse_plain_name,
    parse_pod_names,
    parse_service_name,
)
from maesh_core.errors import ConfigurationError
from maesh_core.model.keys import ObjectKey
from maesh_core.model.messages import PodReport

from .test_pod_lookup import build_lookup, build_pod

LABELS = st.from_regex(r"[a-z]([a-z0-9-]{0,6}[a-z0-9])?", fullmatch=True)
POD_NAMES = st.lists(LABELS, min_size=1, max_size=3).map(".".join)


def find(text, *pods):
    return find_client(text, build_lookup(*pods)[0])


@given(POD_NAMES, LABELS)
def test_a_pod_is_found_by_each_spelling_of_its_name(name, namespace):
    pod = build_pod(name, "10.0.0.1", namespace=namespace)
    for text in (f"{name}.{namespace}", f"{namespace}/{name}", f"{name}@{namespace}"):
        client = find(text, pod)
        assert (client.addresses, client.account) == (("10.0.0.1",), f"web@{namespace}"), text


@given(LABELS, LABELS)
def test_a_service_is_meant_by_each_spelling_of_its_name(name, namespace):
    key = ObjectKey(namespace, name)
    for text in (f"{name}.{namespace}", f"{namespace}/{name}", f"{name}@{namespace}", f"{name}.{namespace}.maesh"):
        assert parse_service_name(text) == key


def test_a_name_alone_is_in_the_default_namespace():
    assert parse_pod_names("web") == (ObjectKey("default", "web"),)
    assert parse_service_name("web") == ObjectKey("default", "web")
    assert find("web.v1", build_pod("web.v1", "10.0.0.1", namespace="default")).account == "web@default"


@pytest.mark.parametrize("text", ["10.0.0.1", "::ffff:10.0.0.1", "::FFFF:A00:1", "fd00::1", "FD00:0000::0001"])
def test_an_address_finds_its_pod_in_each_of_its_spellings(text):
    client = find(text, build_pod("web-0", "10.0.0.1", "fd00:0::1"))
    assert client.account == "web@shop"
    assert client.addresses in {("10.0.0.1",), ("fd00::1",)}


def test_a_pod_has_all_its_addresses():
    client = find("shop/web-0", build_pod("web-0", "10.0.0.1", "fd00::1"))
    assert client.addresses == ("10.0.0.1", "fd00::1")
    assert client.lines == ("client pod shop/web-0 at 10.0.0.1 and fd00::1, service account web@shop",)


def test_pods_that_share_an_address_are_named_with_their_accounts():
    pods = [build_pod("a", "10.0.0.1", account="one"), build_pod("b", "10.0.0.1", account="two")]
    assert find("shop/a", *pods).lines == (
        "client pod shop/a at 10.0.0.1, service account one@shop",
        "address 10.0.0.1 is also that of pod shop/b (two@shop)",
    )
    by_address = find("10.0.0.1", *pods)
    assert by_address.lines == ("client 10.0.0.1: the address of pods shop/a (one@shop) and shop/b (two@shop)",)
    assert (by_address.account, len(by_address.holders["10.0.0.1"])) == ("", 2)


def test_pods_of_one_account_at_one_address_have_that_account():
    client = find("10.0.0.1", build_pod("a", "10.0.0.1"), build_pod("b", "10.0.0.1"))
    assert client.account == "web@shop"
    assert client.lines[1] == "address 10.0.0.1 is also that of pod shop/b (web@shop)"


def test_of_many_pods_at_one_address_a_few_are_named():
    pods = [build_pod(f"p{i:03}", "10.0.0.1", account=f"a{i}", host_network=True) for i in range(150)]
    (line,) = find("10.0.0.1", *pods).lines
    assert line.endswith("shop/p000 (a0@shop), shop/p001 (a1@shop), shop/p002 (a2@shop) and 147 more")


@pytest.mark.parametrize(
    ("pod", "line"),
    [
        (build_pod("x"), "client pod shop/x without an address, service account web@shop"),
        (
            build_pod("x", "10.0.0.1", phase="Failed"),
            "client pod shop/x, service account web@shop: it has ended, so nothing comes from it",
        ),
        (
            build_pod("x", "10.0.0.1", host_network=True),
            "client pod shop/x at 10.0.0.1, service account web@shop, on its node's network",
        ),
    ],
)
def test_what_is_special_about_a_pod_is_said(pod, line):
    assert find("shop/x", pod).lines == (line,)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("shop/web", "there is no pod web in namespace shop; did you mean shop/web-6f9-abc?"),
        ("web.shop", "there is no pod web in namespace shop; did you mean shop/web-6f9-abc?"),
        ("api@shp", "there is no pod api in namespace shp; did you mean shop/api?"),
        ("nobody", "there is no pod nobody in namespace default"),
        ("shop/", "there is no pod  in namespace shop"),
        ("10.0.0.300", "10.0.0.300 is neither an IP address nor the name of a pod"),
        ("fe80::1%eth0", "fe80::1%eth0 is neither an IP address nor the name of a pod"),
        ("[::1]", "is neither an IP address"),
        ("", "there is no pod"),
    ],
)
def test_who_is_not_there_is_an_error_that_names_the_nearest(text, error):
    with pytest.raises(ConfigurationError) as raised:
        find(text, build_pod("web-6f9-abc"), build_pod("api"))
    assert error in str(raised.value)


def test_an_address_of_no_pod_identifies_no_client():
    client = find("10.0.0.9", build_pod("a", "10.0.0.1"))
    assert (client.addresses, client.account) == (("10.0.0.9",), "")
    assert client.lines == ("client 10.0.0.9: no pod has this address",)


def test_without_the_pods_of_the_cluster_those_of_the_topology_are_known():
    document = {"name": "a", "namespace": "shop", "serviceAccount": "web", "ip": "10.0.0.1"}
    pods = TopologyPods({"pods": {"a@shop": document}})
    assert find_client("a.shop", pods).account == "web@shop"
    assert find_client("::ffff:10.0.0.1", pods).account == "web@shop"
    assert find_client("b.shop", pods).lines == ("client b.shop: no service has this pod and no rule names it",)
    assert find_client("10.0.0.2", pods).lines == (
        "client 10.0.0.2: the address of no pod that a service has or a rule names",
    )


@pytest.mark.parametrize(
    ("pods", "namespace"),
    [
        ([PodReport(namespace="a", name="p", service_account="", addresses=())], "a"),
        ([PodReport(namespace=each, name="p", service_account="", addresses=()) for each in "aa"], "a"),
        ([PodReport(namespace=each, name="p", service_account="", addresses=()) for each in "ab"], ""),
        ([PodReport(namespace="a", name="p", service_account="", addresses=(), host_network=True)], ""),
        ([], ""),
    ],
)
def test_a_client_has_a_namespace_only_if_its_address_is_of_pods_of_one(pods, namespace):
    assert find_client_namespace(pods) == namespace


@pytest.mark.parametrize("text", ["web.shop", "shop/web", "web@shop", "10.96.0.1", "fd00::1", "[fd00::1]"])
def test_only_a_name_without_its_namespace_is_plain(text):
    assert is_plain_name("web")
    assert not is_plain_name(text)


@pytest.mark.parametrize(
    ("holders", "namespace", "line"),
    [
        ({"10.0.0.1": "a", "fd00::1": "b"}, "a", "web alone means the service of the client's namespace, a"),
        ({"10.0.0.1": ""}, "default", "the client's namespace is unknown, so web alone as Host gets 404"),
        ({}, "default", "the client's namespace is unknown, so web alone as Host gets 404"),
    ],
)
def test_a_plain_name_means_the_service_of_the_namespace_at_the_first_address(holders, namespace, line):
    pods = {
        address: (PodReport(namespace=each, name="p", service_account="", addresses=(address,)),) if each else ()
        for address, each in holders.items()
    }
    key, found = parse_plain_name("web", Client(addresses=tuple(holders), holders=pods))
    assert key == ObjectKey(namespace, "web")
    assert found.startswith(line)
