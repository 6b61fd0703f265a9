import msgspec

from maesh_core.controller.discovery.sharing import TABLE_LIMIT, Sharer
from maesh_core.model.resources import (
    Container,
    ContainerPort,
    EndpointSlice,
    ObjectMeta,
    OwnerReference,
    Pod,
    PodCondition,
    PodSpec,
    PodStatus,
    Service,
)


def build_pod(name: str) -> Pod:
    """Build one whose parts are its own, though they are equal to those of others."""
    labels, owner = {"".join(("a", "pp")): "web"}, OwnerReference(kind="ReplicaSet", name="web")
    return Pod(
        metadata=ObjectMeta(name=name, namespace="".join(("n", "s")), labels=labels, owner_references=(owner,)),
        spec=PodSpec(
            service_account_name="".join(("w", "eb")),
            node_name="".join(("node-", "1")),
            containers=(Container(ports=(ContainerPort(container_port=80),)),),
        ),
        status=PodStatus(pod_ip=f"10.0.0.{name}", conditions=(PodCondition(type="Ready", status="True"),)),
    )


def test_pods_of_one_kind_share_their_parts_and_stay_what_they_were() -> None:
    sharer = Sharer()
    one, other = build_pod("1"), build_pod("2")
    for pod in (one, other):
        sharer.share(pod)
    assert (one, other) == (build_pod("1"), build_pod("2"))
    assert one.metadata.labels is other.metadata.labels
    assert one.metadata.owner_references is other.metadata.owner_references
    assert one.spec.containers is other.spec.containers
    assert one.spec.service_account_name is other.spec.service_account_name
    assert one.spec.node_name is other.spec.node_name
    assert one.status.conditions is other.status.conditions


def test_empty_parts_of_different_types_are_never_confused() -> None:
    sharer = Sharer()
    bare = Pod(metadata=ObjectMeta(name="a"), status=PodStatus(phase=""))
    sharer.share(bare)
    assert bare == Pod(metadata=ObjectMeta(name="a"))
    assert isinstance(bare.metadata.labels, dict)
    assert bare.metadata.owner_references == ()
    service = Service(metadata=ObjectMeta(name="a"))
    sharer.share(service)
    assert isinstance(service.metadata.annotations, dict)


def test_slices_share_what_their_endpoints_have_in_common() -> None:
    text = (
        b'{"metadata": {"name": "a", "namespace": "n"}, "ports": [{"port": 80}], "endpoints": [{'
        b'"addresses": ["10.0.0.1"], "conditions": {"ready": true},'
        b' "targetRef": {"kind": "Pod", "name": "p", "namespace": "n"}}]}'
    )
    one, other = (msgspec.json.decode(text, type=EndpointSlice) for _ in range(2))
    sharer = Sharer()
    for each in (one, other):
        sharer.share(each)
    assert one == other == msgspec.json.decode(text, type=EndpointSlice)
    assert one.endpoints[0].conditions is other.endpoints[0].conditions
    assert one.ports is other.ports


def test_the_table_of_parts_does_not_grow_without_end() -> None:
    sharer = Sharer()
    for number in range(TABLE_LIMIT * 2):
        sharer.share(Service(metadata=ObjectMeta(name="a", labels={"number": str(number)})))
    assert len(repr(sharer)) > 0
    assert len(sharer._known) <= TABLE_LIMIT + 10
