"""What the mesh leaves alone."""

import pytest

from maesh_core.controller.topology.rules import TopologyRules, is_ignored, is_ignored_service
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import ObjectMeta, Pod, Service, ServiceSpec

RULES = TopologyRules()


def make_pod(namespace: str = "shop", **labels: str) -> Pod:
    return Pod(metadata=ObjectMeta(name="a", namespace=namespace, labels=labels))


@pytest.mark.parametrize("app", ["maesh", "jaeger"])
def test_objects_of_the_mesh_and_of_jaeger_are_ignored(app: str) -> None:
    assert is_ignored(make_pod(app=app), RULES)


@pytest.mark.parametrize("labels", [{}, {"app": "cart"}, {"tier": "maesh"}, {"app": "Maesh"}])
def test_objects_with_other_labels_are_not_ignored(labels: dict[str, str]) -> None:
    assert not is_ignored(make_pod(**labels), RULES)


def test_kube_system_is_ignored_even_when_it_is_watched() -> None:
    assert is_ignored(make_pod("kube-system"), TopologyRules(watched_namespaces=("kube-system",)))


def test_ignoring_a_namespace_beats_watching_it() -> None:
    rules = TopologyRules(watched_namespaces=("shop", "other"), ignored_namespaces=("other",))
    assert [is_ignored(make_pod(namespace), rules) for namespace in ("shop", "other", "third")] == [False, True, True]


def test_the_namespace_of_the_mesh_is_like_any_other() -> None:
    assert not is_ignored(make_pod("maesh"), TopologyRules(mesh_namespace="maesh"))


@pytest.mark.parametrize(
    ("key", "type_", "expected"),
    [
        (ObjectKey("default", "kubernetes"), "ClusterIP", True),
        (ObjectKey("other", "kubernetes"), "ClusterIP", False),
        (ObjectKey("default", "other"), "ClusterIP", False),
        (ObjectKey("shop", "cart"), "ExternalName", True),
        (ObjectKey("shop", "cart"), "LoadBalancer", False),
    ],
)
def test_services_without_anything_to_carry_are_ignored(key: ObjectKey, type_: str, expected: bool) -> None:
    service = Service(metadata=ObjectMeta(name=key.name, namespace=key.namespace), spec=ServiceSpec(type=type_))
    assert is_ignored_service(service, RULES) is expected
