"""Modes of services: annotations of services and namespaces, and parts of splits."""

import pytest

from maesh_core.controller.configuration.encryption import add_modes, choose_mode
from maesh_core.errors import ConfigurationError
from maesh_core.model.configuration import Part, Section, Service
from maesh_core.model.keys import ObjectKey
from maesh_core.model.topology import BackendNode, BranchNode, PortNode, ServiceNode


class Rules:
    name = "fake"
    annotations: tuple[str, ...] = ("encryption",)

    def build_mode(self, annotations, service):
        if annotations.get("encryption") == "wrong":
            raise ValueError("it is wrong")
        return annotations.get("encryption", "permissive")

    def describe_node(self, node):
        return None


def build_backend(name, *, namespace="n", mode=None):
    annotations = {"mesh.traefik.io/encryption": mode} if mode else {}
    return BackendNode(service=ObjectKey(namespace, name), weight=1, port=PortNode(number=80), annotations=annotations)


def build_node(*backends, **namespaces):
    branch = BranchNode(name="split/s", backends=backends)
    annotations = {name: {"encryption": mode} for name, mode in namespaces.items()}
    return ServiceNode(
        key=ObjectKey("n", "a"),
        traffic_type="http",
        ports=(PortNode(number=80, branches=(branch,)),),
        namespace_annotations=annotations,
    )


@pytest.mark.parametrize(
    ("own", "namespace", "expected"),
    [
        (None, None, "permissive"),
        ("strict", None, "strict"),
        (None, "strict", "strict"),
        ("strict", "off", "strict"),
        ("off", "permissive", "off"),
        ("strict", "strict", "strict"),
    ],
)
def test_the_service_overrides_its_namespace_up_to_strict(own, namespace, expected):
    node = build_node(**({"n": namespace} if namespace else {}))
    assert choose_mode(Rules(), {"encryption": own} if own else {}, node) == expected


@pytest.mark.parametrize("own", ["off", "permissive"])
def test_no_service_is_weaker_than_a_strict_namespace(own):
    with pytest.raises(ConfigurationError, match=f"its mode is {own}, but its namespace n requires strict encryption"):
        choose_mode(Rules(), {"encryption": own}, build_node(n="strict"))


def test_other_annotations_are_not_passed_on():
    assert choose_mode(Rules(), {"scheme": "wrong"}, build_node()) == "permissive"


def read_modes(node, mode):
    key = "n/a:80"
    services = {f"{key}/split/s/{name}": Service() for name in "bc"}
    parts = tuple(Part(service=each, weight=1) for each in services)
    section = Section(services={key: Service(), f"{key}/split/s": Service(parts=parts), **services})
    found = add_modes(section, Rules(), node, mode=mode).services
    return {name.removeprefix(key): service.encryption for name, service in found.items()}


@pytest.mark.parametrize(
    ("mode", "b", "c", "expected"),
    [
        ("off", "strict", "off", ("strict", "off")),
        ("strict", "off", None, ("strict", "strict")),
        ("off", None, "wrong", ("permissive", "strict")),
    ],
)
def test_a_part_of_a_split_has_the_stricter_mode_and_one_with_an_error_is_strict(mode, b, c, expected):
    node = build_node(build_backend("b", mode=b), build_backend("c", mode=c))
    assert read_modes(node, mode) == {"": mode, "/split/s": mode, "/split/s/b": expected[0], "/split/s/c": expected[1]}


def test_a_part_in_another_namespace_has_the_mode_of_that_namespace():
    node = build_node(build_backend("b", namespace="m"), build_backend("c"), m="strict", n="off")
    assert read_modes(node, "off") == {"": "off", "/split/s": "off", "/split/s/b": "strict", "/split/s/c": "off"}
