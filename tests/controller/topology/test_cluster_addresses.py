"""Which cluster addresses mean a service: its own ones and those of its shadow service, and none that two share."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.controller.configuration.http import build_hosts
from maesh_core.controller.resources.kinds import CORE_KINDS
from maesh_core.controller.resources.snapshot import Snapshot
from maesh_core.controller.resources.view import IndexRead, ObjectRead, RecordingView
from maesh_core.controller.topology.builder import build_service_node
from maesh_core.controller.topology.rules import TopologyRules
from maesh_core.model.events import Replaced
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import ObjectMeta, Service, ServiceSpec
from maesh_core.model.shadow_names import LABELS, NAME_ANNOTATION, NAMESPACE_ANNOTATION, build_name
from maesh_core.model.topology import ServiceNode

KEY = ObjectKey("shop", "cart")
OTHER = ObjectKey("evil", "b")
IN_CLUSTER = TopologyRules(has_shadows=True)


def make_service(key: ObjectKey = KEY, *addresses: str, **metadata: Any) -> Service:
    return Service(
        metadata=ObjectMeta(name=key.name, namespace=key.namespace, **metadata),
        spec=ServiceSpec(cluster_ip=addresses[0] if addresses else "", cluster_ips=addresses),
    )


def make_shadow(original: ObjectKey, *addresses: str, name: str = "", **labels: str) -> Service:
    key = ObjectKey("maesh", name or build_name("maesh", original))
    annotations = {NAME_ANNOTATION: original.name, NAMESPACE_ANNOTATION: original.namespace}
    return make_service(key, *addresses, labels={**LABELS, **labels}, annotations=annotations)


def make_view(*services: Service) -> RecordingView:
    snapshot = Snapshot(CORE_KINDS)
    for kind in CORE_KINDS:
        snapshot.apply([Replaced(kind.type, services if kind.type is Service else ())], source="test")
    return snapshot.view()


def build(view: RecordingView, key: ObjectKey = KEY, rules: TopologyRules = IN_CLUSTER) -> ServiceNode:
    node = build_service_node(view, key, rules=rules)
    assert node is not None
    return node


def test_a_cluster_address_that_is_none_is_left_out_and_reported() -> None:
    node = build(make_view(make_service(KEY, "10.96.0.1", "evil.example", "10.96.0.2")))
    assert node.cluster_ips == ("10.96.0.1", "10.96.0.2")
    assert node.notices == ("cluster address 'evil.example' is not an IP address and is ignored",)


def test_a_cluster_address_of_two_services_means_neither_and_both_say_so() -> None:
    view = make_view(
        make_service(KEY, "10.96.0.1", "FD00:0::1"),
        make_service(OTHER, "10.96.0.1"),
        make_service(ObjectKey("kube-system", "c"), "fd00::1"),
    )
    mine, twin = build(view), build(view, OTHER)
    assert (mine.cluster_ips, twin.cluster_ips) == (("fd00::1",), ())
    assert mine.notices == (f"cluster address 10.96.0.1 is also that of Service {OTHER}, so it is used for neither",)
    assert twin.notices == (f"cluster address 10.96.0.1 is also that of Service {KEY}, so it is used for neither",)
    assert IndexRead(Service, "address", "10.96.0.1") in view.reads


def test_the_addresses_of_the_shadow_service_are_hosts_of_its_service() -> None:
    view = make_view(make_service(KEY, "10.96.0.1"), make_shadow(KEY, "10.96.9.9", "FD00:0::9"))
    node = build(view)
    assert (node.cluster_ips, node.shadow_ips) == (("10.96.0.1",), ("10.96.9.9", "fd00::9"))
    assert build_hosts(node) == (
        "cart.shop.maesh",
        "cart.shop.traefik.mesh",
        "10.96.0.1",
        "10.96.9.9",
        "[fd00::9]",
    )


def test_a_headless_service_has_the_addresses_of_its_shadow_service() -> None:
    node = build(make_view(make_service(KEY, "None"), make_shadow(KEY, "10.96.9.9")))
    assert (node.is_headless, node.cluster_ips, node.shadow_ips) == (True, (), ("10.96.9.9",))


def test_a_service_is_built_again_when_its_shadow_service_comes() -> None:
    view = make_view(make_service())
    assert build(view).shadow_ips == ()
    assert ObjectRead(Service, ObjectKey("maesh", build_name("maesh", KEY))) in view.reads


def test_without_a_cluster_nothing_is_a_shadow_service() -> None:
    view = make_view(make_service(), make_shadow(KEY, "10.96.9.9"))
    assert build(view, rules=TopologyRules()).shadow_ips == ()
    assert {read.key for read in view.reads if isinstance(read, ObjectRead)} == {KEY}


@pytest.mark.parametrize(
    "shadow",
    [
        make_shadow(KEY, "10.96.9.9", app="other"),
        make_shadow(OTHER, "10.96.9.9", name=build_name("maesh", KEY)),
        make_shadow(KEY, "10.96.9.9", name="another-name"),
        make_shadow(KEY, "None"),
        make_shadow(KEY, "evil.example"),
        make_shadow(KEY),
    ],
)
def test_what_is_not_certainly_its_shadow_service_means_nothing(shadow: Service) -> None:
    assert build(make_view(make_service(), shadow)).shadow_ips == ()


def test_the_address_of_a_shadow_service_that_another_service_has_means_neither() -> None:
    view = make_view(make_service(), make_shadow(KEY, "10.96.9.9"), make_service(OTHER, "10.96.9.9"))
    mine, twin = build(view), build(view, OTHER)
    assert (mine.shadow_ips, twin.cluster_ips) == ((), ())
    assert twin.notices == (f"cluster address 10.96.9.9 is also that of Service {KEY}, so it is used for neither",)


ADDRESSES = st.sampled_from(["10.96.0.1", "10.96.0.2", "10.96.0.3", "fd00::1"])
KEYS = [ObjectKey("a", "x"), ObjectKey("a", "y"), ObjectKey("b", "x")]


@given(st.lists(st.tuples(st.sampled_from(KEYS), st.booleans(), ADDRESSES), max_size=8))
def test_no_two_services_ever_have_one_address_and_no_address_of_one_service_is_lost(
    claims: list[tuple[ObjectKey, bool, str]],
) -> None:
    own: dict[ObjectKey, list[str]] = {key: [] for key in KEYS}
    shadows: dict[ObjectKey, list[str]] = {key: [] for key in KEYS}
    for key, is_shadow, address in claims:
        (shadows if is_shadow else own)[key].append(address)
    view = make_view(
        *(make_service(key, *dict.fromkeys(own[key])) for key in KEYS),
        *(make_shadow(key, *dict.fromkeys(shadows[key])) for key in KEYS),
    )
    for key in KEYS:
        node = build(view, key)
        foreign = {each for other in KEYS if other != key for each in (*own[other], *shadows[other])}
        assert set(node.cluster_ips) == set(own[key]) - foreign
        assert set(node.shadow_ips) == set(shadows[key]) - foreign
