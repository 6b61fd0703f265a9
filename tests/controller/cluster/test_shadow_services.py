import string
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.controller.cluster.shadow_services import (
    SELECTOR,
    DesiredShadowService,
    ShadowPort,
    ShadowReader,
    build_object,
    is_up_to_date,
    merge_object,
    must_recreate,
)
from maesh_core.controller.configuration.http import HttpTrafficType
from maesh_core.controller.configuration.tcp import TcpTrafficType
from maesh_core.model.events import Applied, Deleted, Problem, Replaced
from maesh_core.model.keys import ObjectKey, is_label
from maesh_core.model.resources import Pod, Service
from maesh_core.model.shadow_names import LABELS, NAME_ANNOTATION, NAMESPACE_ANNOTATION, build_name, find_original
from maesh_core.plugin_system.protocols import PortRange

MESH = "maesh"
KEY = ObjectKey("shop", "web")
NAME = "maesh-web-6d61657368-shop"
FIXED = len("maesh--6d61657368-shop")


class Udp(TcpTrafficType):
    name = "udp"
    transport = "UDP"


LABELS_OF_DNS = st.text(string.ascii_lowercase + string.digits + "-", min_size=1, max_size=63).filter(is_label)
KEYS = st.builds(ObjectKey, LABELS_OF_DNS, LABELS_OF_DNS)

TRAFFIC_TYPES = (
    HttpTrafficType(PortRange(first=5000, limit=2, is_exclusive=False)),
    TcpTrafficType(PortRange(first=10000, limit=3, is_exclusive=True)),
    Udp(PortRange(first=10000, limit=3, is_exclusive=True)),
)


def build_desired(*ports, **more):
    ports = ports or (ShadowPort(80, "http", "TCP", 10000),)
    return DesiredShadowService(service=KEY, ports=tuple(ports), **more)


def decode(document):
    return msgspec.convert(document, Service)


def build(*, distribution=None, spec=None, **more):
    document = build_object(build_desired(**more), MESH, distribution)
    return decode({**document, "spec": {**document["spec"], **(spec or {})}})


def describe(name, *, labels=LABELS, namespace=MESH, ports=(), **annotations):
    metadata = {"name": name, "namespace": namespace, "labels": dict(labels), "annotations": annotations}
    return decode({"metadata": metadata, "spec": {"ports": list(ports)}})


def annotate(key):
    return {NAME_ANNOTATION: key.name, NAMESPACE_ANNOTATION: key.namespace}


# What it looks like


@given(KEYS)
def test_whose_a_shadow_service_is_can_be_read_from_it(key):
    document = build_object(DesiredShadowService(service=key, ports=()), MESH, None)
    assert find_original(decode(document), MESH) == key


def test_a_shadow_service_has_the_users_ports_and_selects_the_proxies():
    ports = ShadowPort(80, "http", "TCP", 5000), ShadowPort(53, "", "UDP", 15000)
    assert build_object(build_desired(*ports), MESH, "PreferClose") == {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NAME, "namespace": MESH, "labels": LABELS, "annotations": annotate(KEY)},
        "spec": {
            "type": "ClusterIP",
            "selector": SELECTOR,
            "ports": [
                {"name": "http", "port": 80, "protocol": "TCP", "targetPort": 5000},
                {"port": 53, "protocol": "UDP", "targetPort": 15000},
            ],
            "trafficDistribution": "PreferClose",
        },
    }


@pytest.mark.parametrize(
    ("families", "policy"), [(("IPv6",), "SingleStack"), (("IPv6", "IPv4"), "RequireDualStack"), ((), "")]
)
def test_it_has_the_ip_families_of_the_users_service(families, policy):
    spec = build_object(build_desired(ip_families=families, ip_family_policy=policy), MESH, None)["spec"]
    assert tuple(spec.get("ipFamilies", ())) == families
    assert spec.get("ipFamilyPolicy", "") == policy
    assert "trafficDistribution" not in spec


def test_merging_replaces_what_is_ours_and_keeps_what_others_added():
    current: dict[str, Any] = {
        "metadata": {
            "name": NAME,
            "resourceVersion": "7",
            "labels": {"team": "x", "app": "other"},
            "annotations": None,
            "finalizers": ["f"],
        },
        "spec": {"clusterIP": "10.0.0.1", "ports": [{"port": 1}], "selector": {"x": "y"}, "sessionAffinity": "None"},
        "status": {"loadBalancer": {}},
    }
    merged = merge_object(current, build_object(build_desired(), MESH, None))
    assert merged["metadata"] == {
        "name": NAME,
        "resourceVersion": "7",
        "labels": {"team": "x", **LABELS},
        "annotations": annotate(KEY),
        "finalizers": ["f"],
    }
    assert merged["spec"]["clusterIP"] == "10.0.0.1"
    assert merged["spec"]["sessionAffinity"] == "None"
    assert merged["spec"]["selector"] == SELECTOR
    assert [port["port"] for port in merged["spec"]["ports"]] == [80]
    assert merged["status"] == {"loadBalancer": {}}
    assert current["metadata"]["labels"] == {"team": "x", "app": "other"}


def test_what_was_built_is_up_to_date():
    assert is_up_to_date(build(distribution="PreferClose"), build_desired(), "PreferClose")
    assert is_up_to_date(build(ip_families=("IPv6", "IPv4")), build_desired(ip_families=("IPv6", "IPv4")), None)


def test_the_order_of_ports_does_not_matter():
    ports = ShadowPort(80, "a", "TCP", 1), ShadowPort(80, "b", "UDP", 2)
    built = decode(build_object(build_desired(*ports), MESH, None))
    assert is_up_to_date(built, build_desired(*reversed(ports)), None)


@pytest.mark.parametrize(
    "spec",
    [
        {"ports": [{"port": 80, "name": "http", "targetPort": 10001}]},
        {"ports": [{"port": 80, "name": "http", "targetPort": "http"}]},
        {"ports": [{"port": 80, "name": "other", "targetPort": 10000}]},
        {"ports": [{"port": 80, "name": "http", "targetPort": 10000}, {"port": 81, "name": "x", "targetPort": 10001}]},
        {"ports": []},
        {"selector": {**SELECTOR, "more": "x"}},
        {"type": "NodePort"},
    ],
)
def test_an_edited_shadow_service_is_not_up_to_date(spec):
    assert not is_up_to_date(build(spec=spec), build_desired(), None)


def test_one_of_an_earlier_version_is_not_up_to_date_until_it_says_whose_it_is():
    document = build_object(build_desired(), MESH, None)
    del document["metadata"]["annotations"]
    assert not is_up_to_date(decode(document), build_desired(), None)


def test_a_distribution_is_looked_at_only_where_one_is_desired():
    assert not is_up_to_date(build(), build_desired(), "PreferClose")
    assert is_up_to_date(build(distribution="PreferClose"), build_desired(), None)


@pytest.mark.parametrize(
    ("there", "families", "recreated"),
    [
        (("IPv4",), ("IPv6",), True),
        (("IPv4", "IPv6"), ("IPv6", "IPv4"), True),
        (("IPv4",), ("IPv4", "IPv6"), False),
        (("IPv4", "IPv6"), ("IPv4",), False),
        ((), ("IPv4",), False),
    ],
)
def test_another_first_family_needs_another_object_and_another_second_an_update(there, families, recreated):
    current = build(ip_families=there)
    assert must_recreate(current, build_desired(ip_families=families)) is recreated
    assert not is_up_to_date(current, build_desired(ip_families=families), None)


def test_a_service_whose_families_are_not_known_takes_what_is_there():
    assert not must_recreate(build(ip_families=("IPv4",)), build_desired())
    assert is_up_to_date(build(ip_families=("IPv4",)), build_desired(), None)


# What shadow services say of entrypoints


@pytest.fixture
def reader():
    return ShadowReader(MESH, TRAFFIC_TYPES)


def shadow(key, *ports):
    """Build a shadow service; a port is number, protocol and target."""
    shown = [{"port": number, "protocol": protocol, "targetPort": target} for number, protocol, target in ports]
    return describe(build_name(MESH, key), ports=shown, **annotate(key))


OTHER = ObjectKey("shop", "other")


def test_targets_in_an_exclusive_range_are_read_by_transport(reader):
    one = shadow(KEY, (80, "TCP", 10000), (80, "UDP", 10002), (81, "TCP", 5000), (82, "TCP", 10003), (83, "TCP", "x"))
    assert reader.read([Applied(one)]) == {KEY: {"tcp": {80: 10000}, "udp": {80: 10002}}}


def test_what_is_not_a_shadow_service_says_nothing(reader):
    others = [
        Applied(describe("web", namespace="shop")),
        Applied(describe(NAME, labels={})),
        Applied(Pod(metadata=describe(NAME).metadata)),
        Deleted(Service, ObjectKey(MESH, NAME)),
        Deleted(Pod, ObjectKey(MESH, NAME)),
        Replaced(Pod, []),
        Problem("x", "y"),
    ]
    assert reader.read(others) == {}
    assert reader.list_originals() == []


def test_one_that_is_deleted_says_nothing_any_more(reader):
    reader.read([Applied(shadow(KEY, (80, "TCP", 10000)))])
    assert reader.list_originals() == [KEY]
    assert reader.read([Deleted(Service, ObjectKey(MESH, NAME))]) == {KEY: {}}
    assert reader.read([Deleted(Service, ObjectKey(MESH, NAME))]) == {}
    assert reader.list_originals() == []


def test_a_list_says_what_is_there_and_what_is_gone(reader):
    reader.read([Applied(shadow(KEY, (80, "TCP", 10000)))])
    listed = [shadow(OTHER, (80, "TCP", 10001)), describe("web", namespace="shop")]
    assert reader.read([Replaced(Service, listed)]) == {KEY: {}, OTHER: {"tcp": {80: 10001}}}
    assert reader.list_originals() == [OTHER]


def test_of_one_batch_the_last_counts(reader):
    events = [
        Applied(shadow(KEY, (80, "TCP", 10000))),
        Deleted(Service, ObjectKey(MESH, NAME)),
        Applied(shadow(KEY, (80, "TCP", 10001))),
    ]
    assert reader.read(events) == {KEY: {"tcp": {80: 10001}}}


def test_one_that_is_made_foreign_says_nothing_any_more(reader):
    reader.read([Applied(shadow(KEY, (80, "TCP", 10000)))])
    foreign = describe(NAME, labels={"app": "maesh"}, ports=[{"port": 80, "targetPort": 10000}], **annotate(KEY))
    assert reader.read([Applied(foreign)]) == {KEY: {}}
    assert reader.list_originals() == []


def test_one_that_turns_out_to_be_anothers_is_the_others(reader):
    name = "maesh-a-6d61657368-b-6d61657368-c"
    first, second = ObjectKey("b-6d61657368-c", "a"), ObjectKey("c", "a-6d61657368-b")
    ports = [{"port": 80, "targetPort": 10000}]
    reader.read([Applied(describe(name, ports=ports, **annotate(first)))])
    found = reader.read([Applied(describe(name, ports=ports, **annotate(second)))])
    assert found == {first: {}, second: {"tcp": {80: 10000}}}
    assert reader.list_originals() == [second]
