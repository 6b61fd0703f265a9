"""Where addresses come from, what is read for it, and hostile objects. The rules themselves: tests/data/mesh."""

from collections.abc import Iterable

import msgspec

from maesh_core.controller.resources.kinds import CORE_KINDS, SERVICE_NAME_LABEL
from maesh_core.controller.resources.snapshot import Snapshot
from maesh_core.controller.resources.view import IndexRead, ObjectRead, RecordingView
from maesh_core.controller.topology.endpoints import EndpointReader
from maesh_core.controller.topology.rules import TopologyRules
from maesh_core.model.events import Replaced
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import (
    Endpoint,
    EndpointAddress,
    EndpointConditions,
    EndpointPort,
    Endpoints,
    EndpointSlice,
    EndpointSubset,
    ObjectMeta,
    ObjectReference,
    Pod,
    PodAddress,
    PodSpec,
    PodStatus,
    Resource,
    Service,
    ServiceSpec,
)

KEY = ObjectKey("shop", "cart")
SERVICE = Service(
    metadata=ObjectMeta(name="cart", namespace="shop"), spec=ServiceSpec(selector={"tier": "x", "app": "cart"})
)


def make_view(*resources: Resource) -> RecordingView:
    snapshot = Snapshot(CORE_KINDS)
    for kind in CORE_KINDS:
        mine = [each for each in resources if type(each) is kind.type]
        snapshot.apply([Replaced(kind.type, mine)], source="test")
    return snapshot.view()


def make_pod(name: str, ip: str, namespace: str = "shop") -> Pod:
    metadata = ObjectMeta(name=name, namespace=namespace, labels={"app": "cart", "tier": "x"})
    return Pod(metadata=metadata, status=PodStatus(pod_ip=ip))


def make_slice(endpoints: Iterable[Endpoint], name: str = "cart-1") -> EndpointSlice:
    metadata = ObjectMeta(name=name, namespace="shop", labels={SERVICE_NAME_LABEL: "cart"})
    return EndpointSlice(metadata=metadata, endpoints=tuple(endpoints), ports=(EndpointPort(port=80),))


def make_reader(view: RecordingView, rules: TopologyRules | None = None) -> EndpointReader:
    return EndpointReader(view, SERVICE, rules or TopologyRules())


def list_ips(reader: EndpointReader) -> list[str]:
    return [address.ip for group in reader.read_groups() for address in group.addresses]


def test_the_first_source_that_knows_the_service_is_the_only_one_read() -> None:
    view = make_view(make_slice([Endpoint(addresses=("10.0.0.1",))]))
    assert list_ips(make_reader(view)) == ["10.0.0.1"]
    assert view.reads == {IndexRead(EndpointSlice, "service", KEY)}


def test_a_service_that_nothing_knows_has_read_every_source() -> None:
    view = make_view()
    assert list_ips(make_reader(view)) == []
    assert view.reads == {
        IndexRead(EndpointSlice, "service", KEY),
        ObjectRead(Endpoints, KEY),
        IndexRead(Pod, "label", "shop/app=cart"),
    }


def test_pods_are_asked_for_only_where_the_rules_say_so() -> None:
    view = make_view(make_pod("a", "10.0.0.1"))
    assert list_ips(make_reader(view, TopologyRules(is_pod_fallback=False))) == []
    assert not any(read.type is Pod for read in view.reads)
    assert list_ips(make_reader(view)) == ["10.0.0.1"]


def test_a_service_without_selector_selects_no_pods() -> None:
    view = make_view(make_pod("a", "10.0.0.1"))
    service = Service(metadata=SERVICE.metadata)
    assert EndpointReader(view, service, TopologyRules()).read_groups() == ()


def test_a_referenced_pod_is_read_even_where_it_is_unknown() -> None:
    reference = ObjectReference(kind="Pod", name="later")
    view = make_view(make_slice([Endpoint(addresses=("10.0.0.1",), target_ref=reference)]))
    (group,) = make_reader(view).read_groups()
    assert [(address.pod, address.resource) for address in group.addresses] == [(ObjectKey("shop", "later"), None)]
    assert ObjectRead(Pod, ObjectKey("shop", "later")) in view.reads


def test_a_reference_to_something_else_than_a_pod_is_none() -> None:
    reference = ObjectReference(kind="Node", name="a")
    view = make_view(make_slice([Endpoint(addresses=("10.0.0.1",), target_ref=reference)]), make_pod("a", "10.0.0.1"))
    (group,) = make_reader(view).read_groups()
    assert group.addresses[0].pod is None


def test_only_the_first_address_of_an_endpoint_counts() -> None:
    view = make_view(make_slice([Endpoint(addresses=("10.0.0.1", "10.0.0.2")), Endpoint(addresses=())]))
    assert list_ips(make_reader(view)) == ["10.0.0.1"]


def test_an_address_that_is_none_is_left_out_and_reported() -> None:
    view = make_view(make_slice([Endpoint(addresses=("10.0.0.1",)), Endpoint(addresses=("evil\nhost",))]))
    reader = make_reader(view)
    assert list_ips(reader) == ["10.0.0.1"]
    assert reader.notices == ["EndpointSlice cart-1@shop: 'evil\\nhost' is not an IP address and is ignored"]


def test_bad_addresses_of_endpoints_and_pods_are_reported_too() -> None:
    subset = EndpointSubset(addresses=(EndpointAddress(ip="nowhere"),))
    reader = make_reader(make_view(Endpoints(metadata=SERVICE.metadata, subsets=(subset,))))
    assert list_ips(reader) == []
    assert reader.notices == ["Endpoints cart@shop: 'nowhere' is not an IP address and is ignored"]
    reader = make_reader(make_view(make_pod("a", "nowhere")))
    assert list_ips(reader) == []
    assert reader.notices == ["Pod a@shop: 'nowhere' is not an IP address and is ignored"]


def test_ignored_endpoints_do_not_let_pods_in_their_place() -> None:
    metadata = ObjectMeta(name="cart", namespace="shop", labels={"app": "jaeger"})
    subset = EndpointSubset(addresses=(EndpointAddress(ip="10.0.0.2"),))
    view = make_view(Endpoints(metadata=metadata, subsets=(subset,)), make_pod("a", "10.0.0.1"))
    assert list_ips(make_reader(view)) == []


def refer(address: str, name: str, namespace: str = "") -> Endpoint:
    reference = ObjectReference(kind="Pod", name=name, namespace=namespace)
    return Endpoint(addresses=(address,), conditions=EndpointConditions(ready=True), target_ref=reference)


def read_pods(reader: EndpointReader) -> list[tuple[str, ObjectKey | None]]:
    return [(address.ip, address.pod) for group in reader.read_groups() for address in group.addresses]


def test_an_address_that_its_pod_does_not_have_is_served_without_the_pod_and_reported() -> None:
    slices = [make_slice([refer("10.9.9.9", "a"), refer("10.0.0.1", "a"), refer("10.0.0.7", "b", "other")])]
    reader = make_reader(make_view(*slices, make_pod("a", "10.0.0.1"), make_pod("b", "10.0.0.7", "other")))
    assert read_pods(reader) == [
        ("10.9.9.9", None),
        ("10.0.0.1", ObjectKey("shop", "a")),
        ("10.0.0.7", ObjectKey("other", "b")),
    ]
    assert reader.notices == [
        "EndpointSlice cart-1@shop: 10.9.9.9 is not an address of Pod a@shop, so it is not attributed to that pod"
    ]


def test_each_address_of_a_pod_is_its_own_in_any_spelling() -> None:
    pod = make_pod("a", "10.0.0.1")
    status = PodStatus(pod_ip="10.0.0.1", pod_ips=(PodAddress(ip="10.0.0.1"), PodAddress(ip="2001:DB8:0::1")))
    reader = make_reader(
        make_view(
            make_slice([refer("10.0.0.1", "a"), refer("2001:db8::0:1", "a")]),
            msgspec.structs.replace(pod, status=status),
        )
    )
    assert read_pods(reader) == [("10.0.0.1", pod.key), ("2001:db8::1", pod.key)]
    assert reader.notices == []


def test_a_pod_without_an_address_has_none_and_that_is_reported_unless_it_is_still_pending() -> None:
    pod = make_pod("a", "")
    reader = make_reader(make_view(make_slice([refer("10.0.0.1", "a")]), pod))
    assert read_pods(reader) == [("10.0.0.1", None)]
    assert len(reader.notices) == 1
    pending = msgspec.structs.replace(pod, status=PodStatus(phase="Pending"))
    reader = make_reader(make_view(make_slice([refer("10.0.0.1", "a")]), pending))
    assert read_pods(reader) == [("10.0.0.1", None)]
    assert reader.notices == []


def test_a_pod_on_its_nodes_network_has_its_nodes_address() -> None:
    pod = msgspec.structs.replace(make_pod("a", "192.0.2.1"), spec=PodSpec(host_network=True))
    reader = make_reader(make_view(make_slice([refer("192.0.2.1", "a")]), pod))
    assert read_pods(reader) == [("192.0.2.1", pod.key)]


def test_endpoints_are_attributed_to_pods_as_strictly_as_slices() -> None:
    address = EndpointAddress(ip="10.9.9.9", target_ref=ObjectReference(kind="Pod", name="a"))
    endpoints = Endpoints(metadata=SERVICE.metadata, subsets=(EndpointSubset(addresses=(address,)),))
    reader = make_reader(make_view(endpoints, make_pod("a", "10.0.0.1")))
    assert read_pods(reader) == [("10.9.9.9", None)]
    assert len(reader.notices) == 1
