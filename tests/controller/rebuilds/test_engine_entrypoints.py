"""Entrypoints of TCP ports: assigned, kept over a restart, and written to a file."""

import json

from maesh_core.controller.ports.port_table import PortOwner
from maesh_core.model.events import Applied, Deleted
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import (
    Service,
)

from .engine_setup import BOOM, FRIEND, build_service, pull, report, start, tcp


def test_a_broken_service_keeps_its_entrypoint():
    engine = start(build_service("a", **tcp(**{FRIEND: "f"})), build_service("f"))
    engine.apply(
        [Applied(build_service("f", annotations={BOOM: "yes"})), Applied(build_service("b", **tcp()))], source="s"
    )
    engine.apply([Applied(build_service("f"))], source="s")
    assert report(engine, "a").ports[0].entrypoint == 10000
    assert report(engine, "b").ports[0].entrypoint == 10001


def test_entrypoints_do_not_depend_on_the_order_of_events():
    services = [build_service(name, **tcp()) for name in "ab"]
    assert start(*services).list_reports() == start(*reversed(services)).list_reports()


def test_a_service_without_an_entrypoint_has_an_error_and_gets_the_next_free_one():
    engine = start(*(build_service(name, **tcp()) for name in "abc"))
    assert "port 80 has no entrypoint" in report(engine, "c").errors[0]
    before = engine.rebuilt_count
    engine.apply([Deleted(Service, ObjectKey("n", "a"))], source="s")
    assert report(engine, "c").ports[0].entrypoint == 10000
    assert report(engine, "c").errors == ()
    assert pull(engine)["tcp"]["routers"]["n/c:80"]["entrypoint"] == 10000
    assert engine.rebuilt_count == before + 1


def test_entrypoints_survive_a_restart_with_other_services(tmp_path):
    path = tmp_path / "port-mapping.json"
    first = start(build_service("b", **tcp()), mapping_path=path)
    second = start(build_service("a", **tcp()), build_service("b", **tcp()), mapping_path=path)
    assert report(second, "b").ports == report(first, "b").ports
    assert report(second, "a").ports[0].entrypoint == 10001


def test_existing_services_keep_their_entrypoints_of_an_inherited_mapping():
    db, other = PortOwner(ObjectKey("n", "b"), 80), PortOwner(ObjectKey("n", "elsewhere"), 80)
    engine = start(
        *(build_service(name, **tcp()) for name in "ab"),
        assigned={"tcp": {db: 10001, other: 10000}},
        tcp_limit=5,
        is_inherited=True,
    )
    assert [report(engine, name).ports[0].entrypoint for name in "ab"] == [10000, 10001]


def test_the_mapping_is_written_before_the_configuration_is_published(tmp_path):
    path = tmp_path / "port-mapping.json"
    engine = start(mapping_path=path)
    kept = {}
    engine.on_revision(lambda: kept.update(json.loads(path.read_bytes())["ports"]["tcp"]))
    engine.apply([Applied(build_service(**tcp()))], source="s")
    assert kept == {"n/a:80": 10000}


def test_the_first_build_removes_deleted_services_from_the_mapping(tmp_path):
    path = tmp_path / "port-mapping.json"
    start(build_service("a", **tcp()), mapping_path=path)
    start(build_service("b", **tcp()), mapping_path=path)
    assert list(json.loads(path.read_bytes())["ports"]["tcp"]) == ["n/b:80"]


def test_a_mesh_of_only_http_services_writes_no_mapping(tmp_path):
    path = tmp_path / "port-mapping.json"
    engine = start(build_service(), mapping_path=path)
    engine.apply([Applied(build_service("b"))], source="s")
    assert not path.exists()


OWN = {"annotations": {"maesh.containo.us/entrypoint": "own"}}


def test_own_http_entrypoints_survive_a_restart_and_are_released_with_the_annotation(tmp_path):
    path = tmp_path / "port-mapping.json"
    first = start(build_service("b", **OWN), mapping_path=path)
    assert json.loads(path.read_bytes())["ports"] == {"http/own": {"n/b:80": 20000}}
    second = start(build_service("a", **OWN), build_service("b", **OWN), mapping_path=path)
    assert [report(second, name).ports[0].entrypoint for name in "ab"] == [20001, 20000]
    assert report(second, "b").ports == report(first, "b").ports
    second.apply([Applied(build_service("b"))], source="s")
    assert report(second, "b").ports[0].entrypoint == 5000
    assert json.loads(path.read_bytes())["ports"] == {"http/own": {"n/a:80": 20001}}


def test_a_service_that_waits_for_an_own_entrypoint_is_served_on_the_shared_one():
    engine = start(*(build_service(name, **OWN) for name in "abc"))
    assert "port 80 has no entrypoint of its own, so it shares one" in report(engine, "c").errors[0]
    router = pull(engine)["http"]["routers"]["n/c:80"]
    assert (router["entrypoint"], router["service"], router.get("ownEntrypoint")) == (5000, "n/c:80", None)
    engine.apply([Deleted(Service, ObjectKey("n", "a"))], source="s")
    assert report(engine, "c").errors == ()
    assert pull(engine)["http"]["routers"]["n/c:80"]["ownEntrypoint"] == 20000


def test_ports_of_several_types_keep_their_entrypoints_whatever_else_changes(tmp_path):
    path = tmp_path / "port-mapping.json"
    mixed = {"maesh.containo.us/81.traffic-type": "tcp", "maesh.containo.us/80.entrypoint": "own"}
    start(build_service("b", ports=(80, 81), annotations=mixed), mapping_path=path)
    engine = start(
        build_service("a", **tcp()), build_service("b", ports=(80, 81), annotations=mixed), mapping_path=path
    )
    assert [port.entrypoint for port in report(engine, "b").ports] == [20000, 10000]
    assert report(engine, "a").ports[0].entrypoint == 10001
    assert {name: list(pull(engine)[name]["routers"]) for name in ("http", "tcp")} == {
        "http": ["n/b:80"],
        "tcp": ["n/a:80", "n/b:81"],
    }
