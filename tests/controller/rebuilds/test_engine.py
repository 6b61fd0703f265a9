"""The engine builds services incrementally, isolates errors, and reports its findings."""

import json
import logging

import msgspec
import pytest

from maesh_core.model.events import Applied, Deleted, Problem, Replaced
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import (
    Service,
)

from .engine_setup import (
    FRIEND,
    TRAFFIC_TYPE,
    TYPES,
    LooseService,
    build_engine,
    build_pod,
    build_service,
    build_slice,
    list_all,
    pull,
    report,
    start,
)


def test_nothing_is_built_before_everything_is_listed():
    engine = build_engine()
    for event in list_all(build_service())[:-1]:
        engine.apply([event], source="s")
    assert not engine.is_ready
    assert engine.list_reports() == []
    engine.apply([Replaced(TYPES[-1], [])], source="s")
    assert engine.is_ready
    assert [each.host for each in engine.list_reports()] == ["a.n.maesh"]


def test_nothing_is_built_before_every_source_has_listed():
    engine = build_engine(sources=("s", "t"))
    engine.apply(list_all(build_service()), source="s")
    assert not engine.is_ready
    engine.apply(list_all(), source="t")
    assert engine.is_ready


def test_an_empty_cluster_is_ready():
    engine = start()
    assert engine.is_ready
    assert pull(engine)["full"] is True


def test_callbacks_run_for_the_first_build_and_for_each_revision_only():
    engine = build_engine()
    revisions = []
    engine.on_revision(lambda: revisions.append((engine.is_ready, engine.revision)))
    engine.apply(list_all(), source="s")
    engine.apply([Applied(build_service())], source="s")
    engine.apply([Applied(build_service())], source="s")
    engine.apply([Problem("file", "broken")], source="s")
    assert revisions == [(True, "e.0"), (True, "e.1")]


def test_one_batch_is_one_revision():
    engine = start()
    engine.apply([Applied(build_service(name)) for name in "abc"], source="s")
    assert engine.revision == "e.1"


def test_a_change_rebuilds_only_the_services_that_read_it():
    engine = start(*(build_service(name) for name in "abc"), build_slice("x", "b", pod="p"), build_pod("p", "10.0.0.1"))
    before = engine.rebuilt_count
    engine.apply([Applied(build_slice("x", "b", "10.0.0.2"))], source="s")
    assert engine.rebuilt_count == before + 1
    assert [server["address"] for server in pull(engine, "e.1")["http"]["services"]["n/b:80"]["servers"]] == [
        "10.0.0.2"
    ]
    engine.apply([Applied(build_pod("unknown", "10.0.0.9"))], source="s")
    assert engine.rebuilt_count == before + 1


def test_a_changed_app_protocol_changes_the_scheme_of_its_port_only():
    service = build_service(ports=(80, 81))
    engine = start(service, build_slice("a-1", "a"))
    before = engine.revision
    (port, *rest) = service.spec.ports
    ports = (msgspec.structs.replace(port, app_protocol="grpc"), *rest)
    spec = msgspec.structs.replace(service.spec, ports=ports)
    engine.apply([Applied(msgspec.structs.replace(service, spec=spec))], source="s")
    changed = pull(engine, since=before)["http"]
    assert changed["routers"] == {}
    assert {key: each["scheme"] for key, each in changed["services"].items()} == {"n/a:80": "h2c"}


def test_a_change_that_a_plugin_read_rebuilds_the_service():
    engine = start(build_service("a", annotations={FRIEND: "b"}), build_service("c"))
    before = engine.rebuilt_count
    engine.apply([Applied(build_service("b", ports=(1, 2)))], source="s")
    assert engine.rebuilt_count == before + 2
    services = json.loads(engine.render_topology())["services"]
    assert services["a@n"]["additions"] == {"friend": 2}


def test_a_deleted_service_leaves_nothing_behind():
    engine = start(build_service(), build_slice("x", "a", pod="p"))
    engine.apply([Deleted(Service, ObjectKey("n", "a"))], source="s")
    assert engine.list_reports() == []
    assert pull(engine, "e.1")["removed"]
    assert engine.dependencies.list_services() == []
    assert engine.dependencies.count_reads() == 0


def test_a_service_that_is_no_longer_ignored_is_built():
    ignored = build_service()
    ignored = msgspec.structs.replace(
        ignored, metadata=msgspec.structs.replace(ignored.metadata, labels={"app": "maesh"})
    )
    engine = start(ignored)
    assert engine.list_reports() == []
    engine.apply([Applied(build_service())], source="s")
    assert [each.name for each in engine.list_reports()] == ["a"]
    engine.apply([Applied(ignored)], source="s")
    assert engine.list_reports() == []


def test_an_invalid_service_affects_no_other(caplog):
    engine = start(build_service("a", annotations={TRAFFIC_TYPE: "no such"}), build_service("b"))
    assert report(engine, "a").errors
    assert report(engine, "a").ports[0].entrypoint is None
    assert report(engine, "b").ports[0].entrypoint == 5000
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_the_topology_includes_findings_of_the_configuration():
    engine = start(build_service("a", annotations={TRAFFIC_TYPE: "udp"}))
    assert json.loads(engine.render_topology())["services"]["a@n"]["errors"] == list(report(engine).errors)


def test_a_port_without_servers_reports_the_reason():
    engine = start(build_service("a"), build_slice("x", "a"), build_service("b"))
    assert {each.name: each.ports[0].unserved for each in engine.list_reports()} == {
        "a": "",
        "b": "its selector app=b matches no pod",
    }


def test_services_are_rendered_as_they_are_reported():
    engine = start(build_service(), build_slice("x", "a"))
    assert json.loads(engine.render_services()) == [
        {
            "namespace": "n",
            "name": "a",
            "host": "a.n.maesh",
            "trafficType": "http",
            "ports": [{"name": "80", "port": 80, "protocol": "TCP", "entrypoint": 5000}],
            "errors": [],
            "notices": [],
        }
    ]
    engine.apply([Deleted(Service, ObjectKey("n", "a"))], source="s")
    assert json.loads(engine.render_services()) == []


@pytest.mark.scale
def test_an_endpoint_change_rebuilds_one_of_many_services():
    names = [f"s{number}" for number in range(500)]
    slices = [
        build_slice(f"{name}-x", name, f"10.0.{number // 250}.{number % 250 + 1}") for number, name in enumerate(names)
    ]
    engine = start(*map(build_service, names), *slices)
    assert engine.rebuilt_count == 500
    engine.apply([Applied(build_slice("s7-x", "s7", "10.1.0.1"))], source="s")
    assert engine.rebuilt_count == 501
    assert list(pull(engine, "e.1")["http"]["services"]) == ["n/s7:80"]
    assert engine.revision == "e.2"


def test_a_change_checks_only_the_affected_ones_of_many_objects():
    pods = [build_pod(f"p{number}", f"10.0.{number // 250}.{number % 250 + 1}") for number in range(500)]
    engine = start(*pods, build_service("p3"), checkers=(LooseService(),))
    assert engine.reports.check_count == 500
    assert len(json.loads(engine.render_objects())) == 499
    engine.apply([Applied(build_slice("x", "p3"))], source="s")
    assert engine.reports.check_count == 500
    engine.apply([Applied(build_service("p7"))], source="s")
    assert engine.reports.check_count == 501
    assert len(json.loads(engine.render_objects())) == 498
    engine.apply([Applied(build_pod("p9", "10.9.9.9"))], source="s")
    assert engine.reports.check_count == 502


def test_findings_are_logged_once_and_again_when_they_are_resolved(caplog):
    engine = start(build_service("a", annotations={"mesh.traefik.io/stmap": "x"}))
    engine.apply([Applied(build_slice("x", "a"))], source="s")
    engine.apply([Applied(build_service("a"))], source="s")
    text = "annotation mesh.traefik.io/stmap: no enabled plugin reads it; did you mean stamp?"
    assert [record.getMessage() for record in caplog.records] == [
        f"service a@n: {text}",
        f"service a@n: no longer: {text}",
    ]


def test_objects_are_reported_before_everything_is_listed():
    engine = build_engine()
    engine.apply([Problem("a.yaml", "no YAML")], source="s")
    assert [each["origin"] for each in json.loads(engine.render_objects())] == ["a.yaml"]
