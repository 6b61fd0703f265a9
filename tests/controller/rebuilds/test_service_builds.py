"""An exception of a plugin, or a result that cannot be sent, affects the build of one service only."""

from maesh_core.model.events import Applied

from .engine_setup import BOOM, FRIEND, TRAFFIC_TYPE, build_service, build_slice, pull, report, start


def test_a_failing_topology_builder_closes_only_its_service_and_is_logged_once(caplog):
    friend = build_service("f", annotations={BOOM: "yes"})
    engine = start(build_service("a", annotations={FRIEND: "f"}), friend, build_service("z"))
    assert "RuntimeError: boom" in report(engine, "a").errors[0]
    assert pull(engine)["http"]["routers"]["n/a:80"].get("service") is None
    assert report(engine, "z").errors == ()
    engine.apply([Applied(build_slice("x", "a"))], source="s")
    assert [record.exc_info[0] for record in caplog.records] == [RuntimeError]
    engine.apply([Applied(build_service("f"))], source="s")
    assert report(engine, "a").errors == ()
    assert pull(engine)["http"]["routers"]["n/a:80"]["service"] == "n/a:80"


def test_a_failing_middleware_builder_affects_only_its_service(caplog):
    bad = build_service("a", annotations={"mesh.traefik.io/stamp": "boom"})
    engine = start(bad, build_service("b", annotations={"mesh.traefik.io/stamp": "fine"}))
    assert "RuntimeError: stamp boom" in report(engine, "a").errors[0]
    assert "n/b/stamp" in pull(engine)["http"]["middlewares"]
    assert pull(engine)["http"]["routers"].get("n/a:80", {}).get("service") is None
    assert len([record for record in caplog.records if record.exc_info]) == 1


def test_an_unencodable_router_affects_only_its_service_and_is_logged_once(caplog):
    engine = start(build_service("a", annotations={TRAFFIC_TYPE: "bad"}), build_service("b"))
    engine.apply([Applied(build_slice("x", "a"))], source="s")
    assert len([record for record in caplog.records if record.exc_info]) == 1
    assert report(engine, "a").errors
    assert list(pull(engine)["http"]["routers"]) == ["n/b:80"]
    engine.apply([Applied(build_service("a"))], source="s")
    assert sorted(pull(engine)["http"]["routers"]) == ["n/a:80", "n/b:80"]
    assert report(engine, "a").errors == ()
