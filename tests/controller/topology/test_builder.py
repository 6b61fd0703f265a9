"""One service's node: what plugins add, and objects that no API server would take. The rules: tests/data/mesh."""

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import pytest

from maesh_core.controller.resources.kinds import CORE_KINDS
from maesh_core.controller.resources.snapshot import Snapshot
from maesh_core.controller.resources.view import ObjectRead, RecordingView
from maesh_core.controller.topology.builder import build_service_node
from maesh_core.controller.topology.rules import TopologyRules
from maesh_core.errors import ConfigurationError
from maesh_core.model.annotations import parse_annotations
from maesh_core.model.events import Replaced
from maesh_core.model.findings import ObjectFindings
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import ObjectMeta, Pod, Service, ServicePort, ServiceSpec
from maesh_core.model.topology import AnswerNode, BackendNode, BranchNode, FilterNode, PortRules, RuleTable, ServiceNode
from maesh_core.plugin_system.hookspecs import Addition
from maesh_core.plugin_system.interfaces import TopologyView, View

KEY = ObjectKey("shop", "cart")
RULES = TopologyRules()


class Builder:
    """A plugin's builder that does what it is told."""

    def __init__(self, name: str, build: Callable[[Any, ServiceNode], Addition | None]) -> None:
        self.name = name
        self._build = build

    def build(self, view: View, service: ServiceNode) -> Addition | None:
        return self._build(view, service)


def make_service(*ports: ServicePort, key: ObjectKey = KEY, **spec: Any) -> Service:
    metadata = ObjectMeta(name=key.name, namespace=key.namespace)
    return Service(metadata=metadata, spec=ServiceSpec(ports=ports or (ServicePort(port=80),), **spec))


def make_view(*services: Service) -> RecordingView:
    snapshot = Snapshot(CORE_KINDS)
    for kind in CORE_KINDS:
        snapshot.apply([Replaced(kind.type, services if kind.type is Service else ())], source="test")
    return snapshot.view()


def build(service: Service, *builders: Builder) -> ServiceNode:
    node = build_service_node(make_view(service), service.key, rules=RULES, builders=builders)
    assert node is not None
    return node


def test_a_service_that_is_gone_has_no_node_and_was_read() -> None:
    view = make_view()
    assert build_service_node(view, KEY, rules=RULES, builders=()) is None
    assert view.reads == {ObjectRead(Service, KEY)}


def test_an_ignored_service_reads_nothing_else() -> None:
    view = make_view(make_service(key=ObjectKey("kube-system", "dns")))
    assert build_service_node(view, ObjectKey("kube-system", "dns"), rules=RULES, builders=()) is None
    assert view.reads == {ObjectRead(Service, ObjectKey("kube-system", "dns"))}


@pytest.mark.parametrize("name", ["a/b", "a:80", "a.b", "A", "", "-a", "x" * 64, "a\n"])
def test_a_name_that_could_mean_another_host_or_key_is_an_error(name: str) -> None:
    (error,) = build(make_service(key=ObjectKey("shop", name))).errors
    assert error == f"{name!r} is not a DNS label, which a service's name must be"


@pytest.mark.parametrize("number", [0, -1, 65536])
def test_a_port_that_is_none_is_an_error_and_keeps_its_place(number: int) -> None:
    node = build(make_service(ServicePort(port=number), ServicePort(port=80)))
    assert node.errors == (f"port {number} is not a port number",)
    assert [(port.number, port.index) for port in node.ports] == [(80, 1)]


def test_a_port_has_its_app_protocol_as_written() -> None:
    ports = ServicePort(port=80, app_protocol="grpc"), ServicePort(port=81, app_protocol="HTTPS"), ServicePort(port=82)
    assert [port.app_protocol for port in build(make_service(*ports)).ports] == ["grpc", "HTTPS", ""]


def test_a_port_that_is_there_twice_is_an_error() -> None:
    node = build(make_service(ServicePort(port=80), ServicePort(port=80, protocol="UDP"), ServicePort(port=80)))
    assert node.errors == ("port 80 TCP appears twice",)


def test_what_plugins_find_stands_under_their_names_whatever_their_order() -> None:
    builders = (
        Builder("b", lambda _, node: Addition(value={"sees": dict(node.additions)}, errors=("wrong",))),
        Builder("a", lambda _, __: Addition(value=1, notices=("strange",))),
        Builder("c", lambda _, __: None),
        Builder("d", lambda _, __: Addition(errors=("bad",))),
    )
    for ordered in itertools.permutations(builders):
        node = build(make_service(), *ordered)
        assert list(node.additions.items()) == [("a", 1), ("b", {"sees": {}})]
        assert (node.errors, node.notices) == (("wrong", "bad"), ("strange",))


def test_plugins_read_annotations_without_prefix_whichever_it_is() -> None:
    seen: list[Mapping[str, str]] = []

    def look(view: TopologyView, node: ServiceNode) -> None:
        other = view.build_service(node.key)
        assert other is not None
        seen.extend((node.annotations, other.annotations))

    annotations = {
        "maesh.containo.us/greeting": "weak",
        "mesh.traefik.io/greeting": "strong",
        "example.com/team": "a",
        "greeting": "another's",
        "note": "of nobody",
    }
    service = make_service()
    metadata = msgspec.structs.replace(service.metadata, annotations=annotations)
    node = build(msgspec.structs.replace(service, metadata=metadata), Builder("a", look), Builder("b", look))
    assert dict(node.annotations) == annotations
    assert len(seen) == 4
    for shown in seen:
        assert shown["greeting"] == "strong"
        assert shown["example.com/team"] == "a"
        assert "note" not in shown
        assert parse_annotations(shown) == {"greeting": "strong"}


def test_what_plugins_read_is_recorded_like_the_cores_own_reads() -> None:
    key = ObjectKey("other", "pod")

    def read(view: View, _: ServiceNode) -> None:
        view.get(Pod, key)

    view = make_view(make_service())
    build_service_node(view, KEY, rules=RULES, builders=[Builder("a", read)])
    assert ObjectRead(Pod, key) in view.reads


def test_a_plugins_configuration_error_is_put_on_the_service() -> None:
    def refuse(_: View, __: ServiceNode) -> None:
        raise ConfigurationError("no such group")

    assert build(make_service(), Builder("acl", refuse)).errors == ("acl: no such group",)


def test_any_other_exception_of_a_plugin_goes_up() -> None:
    def fail(_: View, __: ServiceNode) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        build(make_service(), Builder("broken", fail))


def test_what_plugins_say_is_one_printable_line_each() -> None:
    hostile, shown = "split \x1b[31ma\nb", r"split \x1b[31ma b"

    def find(_: View, __: ServiceNode) -> Addition:
        objects = (ObjectFindings(type=Pod, key=KEY, errors=(hostile,), notices=(hostile,)),)
        return Addition(errors=(hostile,), notices=(hostile,), objects=objects)

    def refuse(_: View, __: ServiceNode) -> None:
        raise ConfigurationError(hostile)

    node = build(make_service(), Builder("a", find), Builder("b", refuse))
    assert node.errors == (shown, f"b: {shown}")
    assert node.notices == (shown,)
    assert [(each.errors, each.notices) for each in node.objects] == [((shown,), (shown,))]


@pytest.mark.parametrize(
    ("branch", "noun"),
    [
        (BranchNode(name="b", answer=AnswerNode(status=403, reason="denied")), "an answer"),
        (BranchNode(name="b", filters=(FilterNode(name="RequestRedirect"),)), "filters"),
        (BranchNode(name="b", keeps_shares=True), "shares that are kept"),
        (
            BranchNode(name="b", backends=(BackendNode(service=KEY, weight=1, filters=(FilterNode(name="a"),)),)),
            "filters of backends",
        ),
        (
            BranchNode(name="b", backends=(BackendNode(service=KEY, weight=1, protocol="h2c"),)),
            "protocols of backends",
        ),
    ],
)
def test_what_only_rules_apply_closes_the_service_of_a_branch(branch: BranchNode, noun: str) -> None:
    addition = Addition(branches={(80, "TCP"): (branch,)})
    node = build(make_service(), Builder("a", lambda _, __: addition))
    assert node.errors == (f"a: this controller does not support {noun} of a branch: b",)


def test_rules_of_one_builder_are_on_the_port_and_those_of_two_are_an_error() -> None:
    table = RuleTable(no_match=AnswerNode(status=404, reason="no rule matches"))
    addition = Addition(rules={(80, "TCP"): PortRules(producer=table)})
    node = build(make_service(), Builder("a", lambda _, __: addition))
    assert (node.errors, node.ports[0].rules) == ((), table)
    node = build(make_service(), Builder("a", lambda _, __: addition), Builder("b", lambda _, __: addition))
    assert node.errors == ("both a and b define rules for port 80 TCP",)
