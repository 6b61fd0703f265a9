import json
import logging

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maesh_core.controller.configuration.catalogue import Catalogue
from maesh_core.controller.configuration.http import HttpTrafficType
from maesh_core.controller.configuration.revisions import RevisionStore
from maesh_core.controller.configuration.tcp import TcpTrafficType
from maesh_core.controller.engine import Engine, EngineParts
from maesh_core.controller.ports.assignment import PortTables
from maesh_core.controller.ports.mapping_file import PortMappingFile
from maesh_core.controller.ports.port_table import PortOwner
from maesh_core.controller.resources.kinds import CORE_KINDS
from maesh_core.controller.resources.snapshot import Snapshot
from maesh_core.controller.topology.rules import TopologyRules
from maesh_core.model.events import Applied, Deleted, Problem, Replaced
from maesh_core.model.findings import Findings, ObjectFindings
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import (
    Endpoint,
    EndpointPort,
    EndpointSlice,
    ObjectMeta,
    ObjectReference,
    Pod,
    PodStatus,
    Service,
    ServicePort,
    ServiceSpec,
)
from maesh_core.plugin_system.hookspecs import Addition, PortRange, Stage, TrafficType

TYPES = tuple(kind.type for kind in CORE_KINDS)
TRAFFIC_TYPE = "mesh.traefik.io/traffic-type"
FRIEND = "example.org/friend"
"""Names another service of the namespace, which the test's topology builder reads."""
BOOM = "example.org/boom"


class FriendBuilder:
    """Reads another service; fails in a way that nobody expects where that one is annotated so."""

    name = "friend"

    def build(self, view, node):
        name = node.annotations.get(FRIEND)
        friend = view.get(Service, ObjectKey(node.key.namespace, name)) if name else None
        if friend is None:
            return None
        if BOOM in friend.metadata.annotations:
            raise RuntimeError("boom")
        seen = ObjectFindings(type=Pod, key=ObjectKey(node.key.namespace, "p"), notices=(f"seen by {node.key.name}",))
        return Addition(value=len(friend.spec.ports), objects=(seen,))


class LooseService:
    """Checks every pod: does it have a service of its name, or concern one?"""

    type = Pod

    def check(self, view, resource, services):
        found = view.get(Service, resource.key)
        return Findings(notices=(f"no service {resource.metadata.name}",)) if not (found or services) else None


class StampBuilder:
    """A middleware that fails in a way that nobody expects where it is told so."""

    kind = "stamp"
    stage = Stage.LIMIT
    annotations = ("stamp",)

    def build_settings(self, annotations, service):
        if annotations.get("stamp") == "boom":
            raise RuntimeError("stamp boom")
        return {"text": annotations["stamp"]} if annotations else None


class BadTrafficType(HttpTrafficType):
    """A traffic type of a plugin that makes what cannot be sent."""

    name = "bad"

    def build_section(self, service, annotations, *, entrypoints, middlewares):
        section = super().build_section(service, annotations, entrypoints=entrypoints, middlewares=())
        return msgspec.structs.replace(section, services={key: object() for key in section.services})

    def build_closed_section(self, service, *, entrypoints, reason):
        raise RuntimeError("closing fails too")


def build_engine(*, assigned=None, mapping_path=None, sources=("s",), tcp_limit=2, is_inherited=False, checkers=()):
    traffic_types: list[TrafficType] = [
        HttpTrafficType(PortRange(first=5000, limit=2, is_exclusive=False)),
        TcpTrafficType(PortRange(first=10000, limit=tcp_limit, is_exclusive=True)),
        BadTrafficType(PortRange(first=7000, limit=2, is_exclusive=False)),
    ]
    ranges = {each.name: each.port_range for each in traffic_types if each.port_range.is_exclusive}
    mapping_file = PortMappingFile(mapping_path)
    parts = EngineParts(
        snapshot=Snapshot(CORE_KINDS),
        rules=TopologyRules(),
        builders=(FriendBuilder(),),
        catalogue=Catalogue(traffic_types, [StampBuilder()]),
        ports=PortTables(
            ranges, assigned=assigned or mapping_file.load(), clock=lambda: 0.0, is_inherited=is_inherited
        ),
        mapping_file=mapping_file,
        revisions=RevisionStore("e", ()),
        sources=sources,
        kinds=CORE_KINDS,
        checkers=checkers,
    )
    return Engine(parts)


def build_service(name="a", namespace="n", ports=(80,), **annotations):
    return Service(
        metadata=ObjectMeta(name=name, namespace=namespace, annotations=annotations.get("annotations", {})),
        spec=ServiceSpec(ports=tuple(ServicePort(port=port, name=str(port)) for port in ports), selector={"app": name}),
    )


def build_slice(name, service, address="10.0.0.1", pod=None, namespace="n"):
    reference = ObjectReference(kind="Pod", namespace=namespace, name=pod) if pod else None
    return EndpointSlice(
        metadata=ObjectMeta(name=name, namespace=namespace, labels={"kubernetes.io/service-name": service}),
        endpoints=(Endpoint(addresses=(address,), target_ref=reference),),
        ports=(EndpointPort(name="80", port=8080),),
    )


def build_pod(name, ip, labels=None):
    return Pod(metadata=ObjectMeta(name=name, namespace="n", labels=labels or {}), status=PodStatus(pod_ip=ip))


def list_all(*resources):
    return [Replaced(type_, [each for each in resources if type(each) is type_]) for type_ in TYPES]


def start(*resources, **more):
    engine = build_engine(**more)
    engine.apply(list_all(*resources), source="s")
    return engine


def report(engine, name="a"):
    return next(each for each in engine.list_reports() if each.name == name)


def pull(engine, since=None):
    return json.loads(engine.render_configuration(since))


def tcp(**more):
    return {"annotations": {TRAFFIC_TYPE: "tcp", **more}}


def test_nothing_is_built_before_everything_is_listed():
    engine = build_engine()
    for event in list_all(build_service())[:-1]:
        engine.apply([event], source="s")
    assert not engine.is_ready
    assert engine.list_reports() == []
    engine.apply([Replaced(TYPES[-1], [])], source="s")
    assert engine.is_ready
    assert [each.host for each in engine.list_reports()] == ["a.n.maesh"]


def test_every_source_must_have_listed():
    engine = build_engine(sources=("s", "t"))
    engine.apply(list_all(build_service()), source="s")
    assert not engine.is_ready
    engine.apply(list_all(), source="t")
    assert engine.is_ready


def test_an_empty_cluster_is_ready():
    engine = start()
    assert engine.is_ready
    assert pull(engine)["full"] is True


def test_callbacks_tell_of_the_first_build_and_of_each_revision_only():
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


def test_a_change_reruns_the_services_that_read_it_and_no_other():
    engine = start(*(build_service(name) for name in "abc"), build_slice("x", "b", pod="p"), build_pod("p", "10.0.0.1"))
    before = engine.rebuilt_count
    engine.apply([Applied(build_slice("x", "b", "10.0.0.2"))], source="s")
    assert engine.rebuilt_count == before + 1
    assert [server["address"] for server in pull(engine, "e.1")["http"]["services"]["n/b:80"]["servers"]] == [
        "10.0.0.2"
    ]
    engine.apply([Applied(build_pod("unknown", "10.0.0.9"))], source="s")
    assert engine.rebuilt_count == before + 1


def test_what_a_plugin_reads_reruns_the_service_too():
    engine = start(build_service("a", annotations={FRIEND: "b"}), build_service("c"))
    before = engine.rebuilt_count
    engine.apply([Applied(build_service("b", ports=(1, 2)))], source="s")
    assert engine.rebuilt_count == before + 2
    services = json.loads(engine.render_topology())["services"]
    assert services["a@n"]["additions"] == {"friend": 2}


def test_a_service_that_goes_leaves_nothing_behind():
    engine = start(build_service(), build_slice("x", "a", pod="p"))
    engine.apply([Deleted(Service, ObjectKey("n", "a"))], source="s")
    assert engine.list_reports() == []
    assert pull(engine, "e.1")["removed"]
    assert engine.dependencies.list_services() == []
    assert engine.dependencies.count_reads() == 0


def test_an_ignored_service_comes_when_it_is_not_ignored_any_more():
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


def test_a_bad_service_harms_itself_alone(caplog):
    engine = start(build_service("a", annotations={TRAFFIC_TYPE: "no such"}), build_service("b"))
    assert report(engine, "a").errors
    assert report(engine, "a").ports[0].entrypoint is None
    assert report(engine, "b").ports[0].entrypoint == 5000
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_a_topology_builder_that_breaks_closes_its_service_alone_and_is_logged_once(caplog):
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


def test_a_broken_service_keeps_its_entrypoint():
    engine = start(build_service("a", **tcp(**{FRIEND: "f"})), build_service("f"))
    engine.apply(
        [Applied(build_service("f", annotations={BOOM: "yes"})), Applied(build_service("b", **tcp()))], source="s"
    )
    engine.apply([Applied(build_service("f"))], source="s")
    assert report(engine, "a").ports[0].entrypoint == 10000
    assert report(engine, "b").ports[0].entrypoint == 10001


def test_a_middleware_builder_that_breaks_harms_its_service_alone(caplog):
    bad = build_service("a", annotations={"mesh.traefik.io/stamp": "boom"})
    engine = start(bad, build_service("b", annotations={"mesh.traefik.io/stamp": "fine"}))
    assert "RuntimeError: stamp boom" in report(engine, "a").errors[0]
    assert "n/b/stamp" in pull(engine)["http"]["middlewares"]
    assert pull(engine)["http"]["routers"].get("n/a:80", {}).get("service") is None
    assert len([record for record in caplog.records if record.exc_info]) == 1


def test_what_cannot_be_sent_to_proxies_harms_its_service_alone_and_is_logged_once(caplog):
    engine = start(build_service("a", annotations={TRAFFIC_TYPE: "bad"}), build_service("b"))
    engine.apply([Applied(build_slice("x", "a"))], source="s")
    assert len([record for record in caplog.records if record.exc_info]) == 1
    assert report(engine, "a").errors
    assert list(pull(engine)["http"]["routers"]) == ["n/b:80"]
    engine.apply([Applied(build_service("a"))], source="s")
    assert sorted(pull(engine)["http"]["routers"]) == ["n/a:80", "n/b:80"]
    assert report(engine, "a").errors == ()


def test_entrypoints_do_not_depend_on_the_order_of_events():
    services = [build_service(name, **tcp()) for name in "ab"]
    assert start(*services).list_reports() == start(*reversed(services)).list_reports()


def test_a_service_that_does_not_fit_says_so_and_gets_the_next_free_entrypoint():
    engine = start(*(build_service(name, **tcp()) for name in "abc"))
    assert "port 80 has no entrypoint" in report(engine, "c").errors[0]
    before = engine.rebuilt_count
    engine.apply([Deleted(Service, ObjectKey("n", "a"))], source="s")
    assert report(engine, "c").ports[0].entrypoint == 10000
    assert report(engine, "c").errors == ()
    assert pull(engine)["tcp"]["routers"]["n/c:80"]["entrypoint"] == 10000
    assert engine.rebuilt_count == before + 1


def test_entrypoints_survive_a_restart_whatever_else_there_is(tmp_path):
    path = tmp_path / "port-mapping.json"
    first = start(build_service("b", **tcp()), mapping_path=path)
    second = start(build_service("a", **tcp()), build_service("b", **tcp()), mapping_path=path)
    assert report(second, "b").ports == report(first, "b").ports
    assert report(second, "a").ports[0].entrypoint == 10001


def test_of_an_inherited_mapping_services_keep_their_own_and_nothing_is_kept_for_others():
    db, other = PortOwner(ObjectKey("n", "b"), 80), PortOwner(ObjectKey("n", "elsewhere"), 80)
    engine = start(
        *(build_service(name, **tcp()) for name in "ab"),
        assigned={"tcp": {db: 10001, other: 10000}},
        tcp_limit=5,
        is_inherited=True,
    )
    assert [report(engine, name).ports[0].entrypoint for name in "ab"] == [10000, 10001]


def test_the_mapping_is_on_disk_before_the_configuration_is_published(tmp_path):
    path = tmp_path / "port-mapping.json"
    engine = start(mapping_path=path)
    kept = {}
    engine.on_revision(lambda: kept.update(json.loads(path.read_bytes())["ports"]["tcp"]))
    engine.apply([Applied(build_service(**tcp()))], source="s")
    assert kept == {"n/a:80": 10000}


def test_services_that_are_gone_are_dropped_from_the_mapping_at_the_first_build(tmp_path):
    path = tmp_path / "port-mapping.json"
    start(build_service("a", **tcp()), mapping_path=path)
    start(build_service("b", **tcp()), mapping_path=path)
    assert list(json.loads(path.read_bytes())["ports"]["tcp"]) == ["n/b:80"]


def test_with_http_alone_no_mapping_is_written(tmp_path):
    path = tmp_path / "port-mapping.json"
    engine = start(build_service(), mapping_path=path)
    engine.apply([Applied(build_service("b"))], source="s")
    assert not path.exists()


def test_a_topology_tells_what_the_configuration_found():
    engine = start(build_service("a", annotations={TRAFFIC_TYPE: "udp"}))
    assert json.loads(engine.render_topology())["services"]["a@n"]["errors"] == list(report(engine).errors)


def test_ports_without_a_server_say_why():
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


NAMES = st.sampled_from("abc")
ANNOTATIONS = st.sampled_from(
    [
        {},
        {},
        {TRAFFIC_TYPE: "tcp"},
        {TRAFFIC_TYPE: "tcp"},
        {TRAFFIC_TYPE: "nonsense"},
        {TRAFFIC_TYPE: "bad"},
        {FRIEND: "a"},
        {FRIEND: "b", TRAFFIC_TYPE: "tcp"},
        {BOOM: "yes"},
        {"mesh.traefik.io/stamp": "x"},
        {"mesh.traefik.io/stamp": "boom"},
    ]
)
PORTS = st.sampled_from([(), (80,), (80, 81), (81,)])
SERVICES = st.builds(
    lambda name, ports, annotations: build_service(name, ports=ports, annotations=annotations),
    NAMES,
    PORTS,
    ANNOTATIONS,
)
SLICES = st.builds(
    build_slice, st.sampled_from("xy"), NAMES, st.sampled_from(["10.0.0.1", "10.0.0.2"]), st.sampled_from([None, "p"])
)
PODS = st.builds(
    build_pod, st.sampled_from("pq"), st.sampled_from(["", "10.0.0.1"]), NAMES.map(lambda name: {"app": name})
)
RESOURCES = SERVICES | SLICES | PODS
EVENTS = (
    st.builds(Applied, RESOURCES)
    | st.builds(lambda each: Deleted(type(each), each.key), RESOURCES)
    | st.lists(SERVICES, max_size=3, unique_by=lambda each: each.key).map(lambda every: Replaced(Service, every))
    | st.lists(SLICES, max_size=2, unique_by=lambda each: each.key).map(lambda every: Replaced(EndpointSlice, every))
)
BATCHES = st.lists(st.lists(EVENTS, max_size=4), max_size=12)


def take(cluster, event):
    """Apply an event to a plain dict, as the simplest model of a snapshot."""
    if isinstance(event, Applied):
        cluster[type(event.resource), event.resource.key] = event.resource
    elif isinstance(event, Deleted):
        cluster.pop((event.type, event.key), None)
    else:
        for place in [place for place in cluster if place[0] is event.type]:
            del cluster[place]
        cluster.update({(event.type, each.key): each for each in event.resources})


def without_revisions(document):
    if isinstance(document, dict):
        return {key: without_revisions(value) for key, value in document.items() if key != "revision"}
    return [without_revisions(each) for each in document] if isinstance(document, list) else document


def apply_delta(whole, delta):
    """Bring a pulled configuration up to date, as a proxy does."""
    if delta["full"]:
        return delta
    for protocol in {*whole, *delta} - {"revision", "full", "plugins", "removed"}:
        for noun in ("routers", "services", "middlewares"):
            objects = whole.setdefault(protocol, {}).setdefault(noun, {})
            objects.update(delta.get(protocol, {}).get(noun, {}))
    for path in delta["removed"]:
        protocol, noun, key = path.split("/", 2)
        del whole[protocol][noun][key]
    return {**whole, "revision": delta["revision"]}


def drop_empty(document):
    return {
        protocol: {noun: objects for noun, objects in section.items() if objects}
        for protocol, section in document.items()
        if isinstance(section, dict) and any(section.values())
    }


@settings(max_examples=150, deadline=None)
@given(BATCHES)
def test_full_and_incremental_results_are_always_equal(batches):
    engine = start(checkers=(LooseService(),))
    cluster = {}
    pulled = pull(engine)
    for batch in batches:
        engine.apply(batch, source="s")
        for event in batch:
            take(cluster, event)
        delta = engine.render_configuration(pulled["revision"])
        pulled = apply_delta(pulled, json.loads(delta)) if delta else pulled

    fresh = start(*cluster.values(), assigned=engine.list_assigned(), checkers=(LooseService(),))
    assert engine.reports.list_reports() == fresh.reports.list_reports()
    assert engine.list_reports() == fresh.list_reports()
    assert json.loads(engine.render_topology()) == json.loads(fresh.render_topology())
    assert without_revisions(pull(engine)) == without_revisions(pull(fresh))
    assert drop_empty(pulled) == drop_empty(pull(engine))
    assert sorted(engine.dependencies.list_services()) == sorted(fresh.dependencies.list_services())
    assert engine.dependencies.count_reads() == fresh.dependencies.count_reads()


@pytest.mark.scale
def test_among_many_services_one_endpoint_change_reruns_one():
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


def test_among_many_objects_a_change_checks_only_what_it_concerns():
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


def test_a_services_findings_are_logged_once_and_again_when_they_are_mended(caplog):
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
