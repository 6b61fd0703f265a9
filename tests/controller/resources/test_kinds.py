from maesh_core.controller.resources.kinds import (
    ACCOUNT_INDEX,
    ADDRESS_INDEX,
    CORE_KINDS,
    LABEL_INDEX,
    SERVICE_INDEX,
    build_label_value,
)
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import (
    EndpointSlice,
    ObjectMeta,
    Pod,
    PodSpec,
    PodStatus,
    ResourceKind,
    Service,
    ServiceSpec,
)


def _kind(type_: type) -> ResourceKind:
    return next(kind for kind in CORE_KINDS if kind.type is type_)


def test_core_watches_the_kinds_that_routing_needs() -> None:
    assert {kind.name for kind in CORE_KINDS} == {
        "Service",
        "EndpointSlice",
        "Endpoints",
        "Pod",
        "Namespace",
        "ServiceAccount",
    }


def test_only_namespaces_have_no_namespace() -> None:
    assert [kind.name for kind in CORE_KINDS if not kind.is_namespaced] == ["Namespace"]


def test_a_slice_is_found_by_its_service_in_its_own_namespace() -> None:
    labels = {"kubernetes.io/service-name": "whoami"}
    item = EndpointSlice(metadata=ObjectMeta(name="whoami-1", namespace="apps", labels=labels))
    assert list(_kind(EndpointSlice).indexes[SERVICE_INDEX](item)) == [ObjectKey("apps", "whoami")]


def test_a_slice_without_the_label_belongs_to_no_service() -> None:
    item = EndpointSlice(metadata=ObjectMeta(name="whoami-1", namespace="apps"))
    assert list(_kind(EndpointSlice).indexes[SERVICE_INDEX](item)) == []


def test_a_pod_is_found_by_each_of_its_labels() -> None:
    pod = Pod(metadata=ObjectMeta(name="p", namespace="apps", labels={"app": "whoami", "tier": "web"}))
    assert set(_kind(Pod).indexes[LABEL_INDEX](pod)) == {"apps/app=whoami", "apps/tier=web"}
    assert build_label_value("apps", "app", "whoami") == "apps/app=whoami"


def test_a_pod_is_found_by_its_account_and_its_address_until_it_has_ended() -> None:
    indexes = _kind(Pod).indexes

    def read(phase: str, address: str = "10.0.0.1") -> list[object]:
        spec = PodSpec(service_account_name="web")
        pod = Pod(
            metadata=ObjectMeta(name="p", namespace="apps"), spec=spec, status=PodStatus(pod_ip=address, phase=phase)
        )
        return [*indexes[ACCOUNT_INDEX](pod), *indexes[ADDRESS_INDEX](pod)]

    assert read("Running") == [ObjectKey("apps", "web"), "10.0.0.1"]
    assert read("Pending", "") == [ObjectKey("apps", "web")]
    assert read("Succeeded") == read("Failed") == []


def test_a_service_is_found_by_its_cluster_addresses_and_a_headless_one_by_none() -> None:
    find = _kind(Service).indexes[ADDRESS_INDEX]
    spec = ServiceSpec(cluster_ip="10.96.0.1", cluster_ips=("10.96.0.1", "FD00:0::1", "x"))
    metadata = ObjectMeta(name="a", namespace="apps")
    assert list(find(Service(metadata=metadata, spec=spec))) == ["10.96.0.1", "fd00::1"]
    assert list(find(Service(metadata=metadata, spec=ServiceSpec(cluster_ip="None")))) == []
