"""A transport in the controller: names of nodes, modes of services, and the section `transport`."""

import json

import msgspec
import pytest

from maesh_core.model.events import Applied, Deleted
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import Pod, PodCondition

from .engine_setup import (
    CALLERS,
    ENCRYPTION,
    TRAFFIC_TYPE,
    FakeTransport,
    build_namespace,
    build_pod,
    build_proxy,
    build_service,
    build_slice,
    pull,
    report,
    start,
)

KEY = "n/a:80"


def start_mesh(*resources):
    return start(*resources, transport=FakeTransport())


def read_servers(engine, key=KEY):
    return pull(engine)["http"]["services"][key]["servers"]


def read_mode(engine, key=KEY, protocol="http"):
    return pull(engine)[protocol]["services"][key].get("encryption", "off")


def test_without_a_transport_the_document_is_the_same_whatever_nodes_and_annotations_there_are():
    service = build_service(annotations={CALLERS: "x"})
    bare = start(service, build_slice("s", "a", pod="p"), build_pod("p", "10.0.0.1", account="x"))
    placed = start(
        service,
        build_slice("s", "a", pod="p", node="n1"),
        build_pod("p", "10.0.0.1", node="n1", account="x"),
        build_proxy("r", "10.0.0.9", node="n1"),
        build_namespace(**{ENCRYPTION: "strict"}),
    )
    assert placed.render_configuration(None) == bare.render_configuration(None)
    assert b"node" not in placed.render_configuration(None)
    assert b"transport" not in placed.render_configuration(None)
    assert b"encryption" not in placed.render_services()
    assert json.loads(placed.render_topology()) == json.loads(bare.render_topology())


@pytest.mark.parametrize(
    ("in_slice", "of_pod", "expected"),
    [("n1", "n2", "n1"), ("", "n2", "n2"), ("n1", "", "n1"), ("", "", None), ("NOT A NODE", "n2", "n2")],
)
def test_a_server_has_the_node_of_its_endpoint_or_else_of_its_pod(in_slice, of_pod, expected):
    engine = start_mesh(
        build_service(), build_slice("s", "a", pod="p", node=in_slice), build_pod("p", "10.0.0.1", node=of_pod)
    )
    assert [each.get("node") for each in read_servers(engine)] == [expected]


def test_a_pod_without_slices_has_its_node_as_well():
    engine = start_mesh(build_service(), build_pod("p", "10.0.0.1", {"app": "a"}, node="n1"))
    assert [each.get("node") for each in read_servers(engine)] == ["n1"]


def test_a_pod_that_moves_changes_only_its_services():
    engine = start_mesh(
        build_service(),
        build_service("b"),
        build_slice("s", "a", pod="p"),
        build_slice("t", "b", "10.0.0.2"),
        build_pod("p", "10.0.0.1", node="n1"),
    )
    before, count = pull(engine)["revision"], engine.rebuilt_count
    engine.apply([Applied(build_pod("p", "10.0.0.1", node="n2"))], source="s")
    changed = json.loads(engine.render_configuration(before))
    assert list(changed["http"]["services"]) == [KEY]
    assert [each["node"] for each in read_servers(engine)] == ["n2"]
    assert engine.rebuilt_count == count + 1


def test_a_service_has_the_mode_of_its_annotation():
    engine = start_mesh(build_service(annotations={ENCRYPTION: "strict"}), build_service("b"))
    assert (read_mode(engine), read_mode(engine, "n/b:80")) == ("strict", "permissive")
    assert (report(engine).encryption, report(engine, "b").encryption) == ("strict", "permissive")
    assert report(engine).notices == ()


def test_each_port_has_its_own_mode_and_the_report_has_the_weakest():
    own = {"mesh.traefik.io/81.encryption": "strict", "mesh.traefik.io/82.encryption": "wrong"}
    engine = start_mesh(build_service(ports=(80, 81, 82), annotations=own))
    assert (read_mode(engine, "n/a:80"), read_mode(engine, "n/a:81")) == ("permissive", "strict")
    assert report(engine).encryption == "permissive"
    assert report(engine).errors[0] == "port 82: annotation encryption: 'wrong' is no mode"
    assert "n/a:82" not in pull(engine)["http"]["services"]


def test_the_mode_off_is_left_out_of_the_document():
    engine = start_mesh(build_service(annotations={ENCRYPTION: "".join(["o", "ff"])}))
    assert "encryption" not in pull(engine)["http"]["services"][KEY]
    assert report(engine).encryption == "off"


def test_the_annotation_of_a_namespace_is_the_default_and_a_weaker_mode_than_its_strict_closes_the_service():
    engine = start_mesh(build_service(), build_service("b", annotations={ENCRYPTION: "permissive"}))
    assert report(engine, "b").errors == ()
    engine.apply([Applied(build_namespace(**{ENCRYPTION: "strict"}))], source="s")
    assert read_mode(engine) == "strict"
    assert report(engine, "b").errors == ("its mode is permissive, but its namespace n requires strict encryption",)
    assert "n/b:80" not in pull(engine)["http"]["services"]
    engine.apply([Applied(build_namespace(**{ENCRYPTION: "off"}))], source="s")
    assert (read_mode(engine), read_mode(engine, "n/b:80")) == ("off", "permissive")


def test_an_invalid_annotation_of_a_service_or_namespace_closes_the_service():
    engine = start_mesh(build_service(annotations={ENCRYPTION: "wrong"}), build_service("b"))
    assert report(engine).errors == ("annotation encryption: 'wrong' is no mode",)
    engine.apply([Applied(build_namespace(**{ENCRYPTION: "wrong"}))], source="s")
    assert report(engine, "b").errors == ("namespace n: annotation encryption: 'wrong' is no mode",)
    assert pull(engine)["http"]["services"] == {}


def test_an_unknown_mode_closes_the_service():
    engine = start_mesh(build_service(annotations={ENCRYPTION: "secret"}))
    assert report(engine).errors == ("transport fake chose the unknown mode 'secret'",)


def test_streams_have_modes_too():
    engine = start_mesh(build_service(annotations={ENCRYPTION: "strict", TRAFFIC_TYPE: "tcp"}))
    assert read_mode(engine, protocol="tcp") == "strict"


def test_nodes_are_those_of_the_meshs_own_pods():
    engine = start_mesh(
        build_proxy("r", "10.0.0.9", node="n1"),
        build_proxy("s", "", node="n2"),
        build_proxy("t", "10.0.0.8", node="out"),
        build_proxy("u", "10.0.0.7", node="boom"),
        build_pod("p", "10.0.0.6", {"maesh.io/tunnel": "15008"}, node="n3"),
    )
    assert pull(engine)["transport"] == {"nodes": {"n1": {"addresses": ["10.0.0.9"]}}, "clients": {}}


def test_changes_of_nodes_are_sent_alone():
    engine = start_mesh(build_service(), build_proxy("r", "10.0.0.9", node="n1"))
    first = pull(engine)["revision"]
    engine.apply([Applied(build_proxy("s", "10.0.0.8", node="n2"))], source="s")
    delta = pull(engine, first)
    assert delta["transport"]["nodes"] == {"n2": {"addresses": ["10.0.0.8"]}}
    assert delta["http"]["services"] == {}
    second = delta["revision"]
    engine.apply([Deleted(Pod, ObjectKey("maesh", "r"))], source="s")
    delta = pull(engine, second)
    assert delta["removed"] == ["transport/nodes/n1"]
    assert "transport" not in delta
    assert pull(engine)["transport"]["nodes"] == {"n2": {"addresses": ["10.0.0.8"]}}


def test_the_newest_ready_pod_of_a_node_is_first_and_pods_that_end_are_left_out():
    ready, starting = PodCondition(type="Ready", status="True"), PodCondition(type="Ready", status="False")
    ending = build_proxy("d", "10.0.0.4", node="n1", start_time="2026-04-01T00:00:00Z", conditions=(ready,))
    engine = start_mesh(
        build_proxy("a", "10.0.0.1", node="n1", start_time="2026-01-01T00:00:00Z", conditions=(ready,)),
        build_proxy("b", "10.0.0.2", node="n1", start_time="2026-02-01T00:00:00Z", conditions=(ready,)),
        build_proxy("c", "10.0.0.3", node="n1", start_time="2026-03-01T00:00:00Z", conditions=(starting,)),
        msgspec.structs.replace(
            ending, metadata=msgspec.structs.replace(ending.metadata, deletion_timestamp="2026-04-02T00:00:00Z")
        ),
        build_proxy("e", "10.0.0.5", node="n1", phase="Failed"),
    )
    assert pull(engine)["transport"]["nodes"]["n1"]["addresses"] == ["10.0.0.2", "10.0.0.1", "10.0.0.3"]


def test_clients_are_the_pods_that_rules_name():
    engine = start_mesh(
        build_service(annotations={CALLERS: "x"}),
        build_service("b", annotations={CALLERS: "x"}),
        build_pod("p", "10.0.0.1", node="n1", account="x"),
        build_pod("q", "10.0.0.2", node="n2", account="y"),
    )
    expected = {"10.0.0.1": {"node": "n1", "account": "x@n"}}
    assert pull(engine)["transport"]["clients"] == expected
    engine.apply([Applied(build_service())], source="s")
    assert pull(engine)["transport"]["clients"] == expected
    revision = pull(engine)["revision"]
    engine.apply([Applied(build_service("b"))], source="s")
    assert pull(engine, revision)["removed"] == ["transport/clients/10.0.0.1"]


def test_an_address_that_identifies_no_pod_is_no_client():
    engine = start_mesh(
        build_service(annotations={CALLERS: "x"}),
        build_pod("p", "10.0.0.1", node="n1", account="x"),
        build_pod("q", "10.0.0.1", node="n1", account="y"),
    )
    assert "transport" not in pull(engine)
    engine.apply([Deleted(Pod, ObjectKey("n", "q"))], source="s")
    assert pull(engine)["transport"]["clients"] == {"10.0.0.1": {"node": "n1", "account": "x@n"}}
    host = build_pod("p", "10.0.0.1", node="n1", account="x")
    on_host = msgspec.structs.replace(host, spec=msgspec.structs.replace(host.spec, host_network=True))
    engine.apply([Applied(on_host)], source="s")
    assert "transport" not in pull(engine)


def test_a_traffic_type_that_cannot_be_encrypted_is_closed_if_it_is_strict():
    engine = start_mesh(
        build_service(annotations={ENCRYPTION: "strict", TRAFFIC_TYPE: "plain"}),
        build_service("b", annotations={TRAFFIC_TYPE: "plain"}),
    )
    assert report(engine).errors == ("plain cannot be encrypted, but the service's mode is strict",)
    assert read_mode(engine, "n/b:80", "plain") == "permissive"


class SharingTransport(FakeTransport):
    """Shares a text with all nodes, and can leave a node out."""

    def __init__(self):
        self.text, self.left_out = "1", ""

    def describe_mesh(self):
        return Shared(self.text) if self.text else None

    def describe_node(self, node):
        return None if node.name == self.left_out else super().describe_node(node)


class Shared(msgspec.Struct, frozen=True):
    text: str


def test_what_a_transport_shares_is_sent_and_changes_on_request():
    transport = SharingTransport()
    engine = start(build_service(), build_proxy("r", "10.0.0.9", node="n1"), transport=transport)
    assert pull(engine)["transport"]["shared"] == {"fake": {"text": "1"}}
    assert list(engine.transport_nodes) == ["n1"]
    before = engine.revision
    engine.refresh_transport()
    assert engine.revision == before, "nothing differs"
    transport.text, transport.left_out = "2", "n1"
    engine.refresh_transport()
    update = json.loads(engine.render_configuration(before))
    assert update["transport"]["shared"] == {"fake": {"text": "2"}}
    assert update["removed"] == ["transport/nodes/n1"]
    assert dict(engine.transport_nodes) == {}
    transport.text = ""
    engine.refresh_transport()
    assert "shared" not in pull(engine).get("transport", {})


def test_without_a_transport_nothing_is_refreshed():
    engine = start(build_service())
    before = engine.revision
    engine.refresh_transport()
    assert (engine.revision, dict(engine.transport_nodes)) == (before, {})
