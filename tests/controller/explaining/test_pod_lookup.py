"""A pod is found by its name and by each of its addresses, however many pods there are."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.controller.explaining.pod_lookup import NEAREST_LIMIT, PODS_LIMIT, PodLookup
from maesh_core.controller.resources.kinds import CORE_KINDS
from maesh_core.controller.resources.snapshot import Snapshot
from maesh_core.model.addresses import parse_address
from maesh_core.model.events import Replaced
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import ObjectMeta, Pod, PodAddress, PodSpec, PodStatus


def build_pod(name, *addresses, namespace="shop", account="web", phase="Running", host_network=False):
    return Pod(
        metadata=ObjectMeta(name=name, namespace=namespace),
        spec=PodSpec(service_account_name=account, host_network=host_network),
        status=PodStatus(
            pod_ip=addresses[0] if addresses else "",
            pod_ips=tuple(PodAddress(ip=each) for each in addresses),
            phase=phase,
        ),
    )


def build_lookup(*pods):
    snapshot = Snapshot(CORE_KINDS)
    snapshot.apply([Replaced(Pod, pods)], source="test")
    return PodLookup(snapshot), snapshot


def name_all(found):
    return [f"{pod.namespace}/{pod.name}" for pod in found.pods]


def test_a_pod_that_no_service_and_no_rule_names_is_found_with_its_account():
    lookup, _ = build_lookup(build_pod("web-0", "10.0.0.1", "FD00:0::1", account="web"))
    (pod,) = lookup.find_by_name(ObjectKey("shop", "web-0")).pods
    assert (pod.account, pod.addresses, pod.host_network, pod.ended) == (
        "web@shop",
        ("10.0.0.1", "fd00::1"),
        False,
        False,
    )


@given(st.lists(st.ip_addresses(), min_size=1, max_size=3, unique=True))
def test_each_address_of_a_pod_finds_it_in_whatever_spelling_it_was_written(addresses):
    lookup, _ = build_lookup(build_pod("web-0", *(each.exploded.upper() for each in addresses)))
    for address in addresses:
        assert name_all(lookup.find_by_address(parse_address(str(address)))) == ["shop/web-0"]


def test_every_pod_that_shares_an_address_is_found_in_order_of_its_name():
    pods = [build_pod(name, "10.0.0.1", account=name) for name in ("b", "a")]
    lookup, _ = build_lookup(*pods, build_pod("c", "10.0.0.2"))
    assert name_all(lookup.find_by_address("10.0.0.1")) == ["shop/a", "shop/b"]


def test_a_pod_that_has_ended_is_found_by_its_name_alone():
    lookup, _ = build_lookup(build_pod("job", "10.0.0.1", phase="Succeeded"))
    assert lookup.find_by_name(ObjectKey("shop", "job")).pods[0].ended
    assert lookup.find_by_address("10.0.0.1").pods == ()


def test_an_answer_has_no_more_pods_than_its_limit_and_counts_the_rest():
    lookup, _ = build_lookup(*(build_pod(f"p{i:03}", "10.0.0.1", host_network=True) for i in range(PODS_LIMIT + 5)))
    found = lookup.find_by_address("10.0.0.1")
    assert (len(found.pods), found.more) == (PODS_LIMIT, 5)


def test_a_question_builds_no_index_that_would_stay():
    lookup, snapshot = build_lookup(build_pod("a", "10.0.0.1"))
    lookup.find_by_address("10.0.0.1")
    affected = snapshot.apply([Replaced(Pod, ())], source="test")
    assert {type(read).__name__ for read in affected} == {"ObjectRead"}
    snapshot.find(Pod, "address", "10.0.0.1")
    assert name_all(lookup.find_by_address("10.0.0.1")) == []


@pytest.mark.parametrize(
    ("asked", "nearest"),
    [
        (("shop", "web"), ("shop/web-6f9-abc", "shop/web-6f9-def")),
        (("shp", "api-0"), ("other/api-0", "shop/api-0")),
        (("shop", "api-1"), ("shop/api-0",)),
        (("shop", "ledger"), ()),
        (("", ""), ()),
    ],
)
def test_a_name_that_no_pod_has_is_answered_with_the_nearest_ones(asked, nearest):
    pods = [
        build_pod("web-6f9-abc"),
        build_pod("web-6f9-def"),
        build_pod("api-0"),
        build_pod("api-0", namespace="other"),
    ]
    found = build_lookup(*pods)[0].find_by_name(ObjectKey(*asked))
    assert (found.pods, found.nearest) == ((), nearest)


def test_of_many_near_names_a_few_are_named():
    lookup, _ = build_lookup(*(build_pod(f"web-{i}") for i in range(5000)))
    assert len(lookup.find_by_name(ObjectKey("shop", "web")).nearest) == NEAREST_LIMIT
    assert len(lookup.find_by_name(ObjectKey("shop", "wbe-17")).nearest) == NEAREST_LIMIT


def test_no_address_is_found_among_pods_that_have_none():
    lookup, _ = build_lookup(build_pod("a"), build_pod("b", "nonsense"))
    assert lookup.find_by_address(str(ipaddress.ip_address(0))).pods == ()
    assert lookup.find_by_name(ObjectKey("shop", "b")).pods[0].addresses == ()
