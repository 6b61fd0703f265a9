"""Full and incremental builds have equal results, whatever the order of events."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from maesh_core.model.events import Applied, Deleted, Replaced
from maesh_core.model.resources import (
    EndpointSlice,
    Service,
)

from .engine_setup import (
    BOOM,
    CALLERS,
    ENCRYPTION,
    FRIEND,
    TRAFFIC_TYPE,
    FakeTransport,
    LooseService,
    build_namespace,
    build_pod,
    build_proxy,
    build_service,
    build_slice,
    pull,
    start,
)

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
        {"maesh.containo.us/81.traffic-type": "tcp", "mesh.traefik.io/80.stamp": "x"},
        {"maesh.containo.us/81.traffic-type": "nonsense", "mesh.traefik.io/80.entrypoint": "own"},
        {"maesh.containo.us/entrypoint": "own", "mesh.traefik.io/81.stamp": "boom"},
        {"maesh.containo.us/entrypoint": "own", "mesh.traefik.io/81.traffic-type": "bad"},
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
        for noun in ("nodes", "clients") if protocol == "transport" else ("routers", "services", "middlewares"):
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


def apply_batches(engine, batches):
    """Apply batches of events; return the objects that are left, and the configuration that the deltas result in."""
    cluster = {}
    pulled = pull(engine)
    for batch in batches:
        engine.apply(batch, source="s")
        for event in batch:
            take(cluster, event)
        delta = engine.render_configuration(pulled["revision"])
        pulled = apply_delta(pulled, json.loads(delta)) if delta else pulled
    return cluster, pulled


@settings(max_examples=150, deadline=None)
@given(BATCHES)
def test_full_and_incremental_results_are_always_equal(batches):
    engine = start(checkers=(LooseService(),))
    cluster, pulled = apply_batches(engine, batches)
    fresh = start(*cluster.values(), assigned=engine.list_assigned(), checkers=(LooseService(),))
    assert engine.reports.list_reports() == fresh.reports.list_reports()
    assert engine.list_reports() == fresh.list_reports()
    assert json.loads(engine.render_topology()) == json.loads(fresh.render_topology())
    assert without_revisions(pull(engine)) == without_revisions(pull(fresh))
    assert drop_empty(pulled) == drop_empty(pull(engine))
    assert sorted(engine.dependencies.list_services()) == sorted(fresh.dependencies.list_services())
    assert engine.dependencies.count_reads() == fresh.dependencies.count_reads()


NODES = st.sampled_from(["n1", "n2", "out", "boom", ""])
ADDRESSES = st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.3", ""])
TRANSPORT_RESOURCES = (
    st.builds(
        lambda name, annotations: build_service(name, annotations=annotations),
        NAMES,
        st.sampled_from(
            [
                {},
                {ENCRYPTION: "strict"},
                {ENCRYPTION: "wrong"},
                {CALLERS: "x"},
                {CALLERS: "y", ENCRYPTION: "off"},
                {CALLERS: "y", TRAFFIC_TYPE: "tcp"},
            ]
        ),
    )
    | st.builds(
        lambda name, service, address, pod, node: build_slice(name, service, address, pod, node=node),
        st.sampled_from("xy"),
        NAMES,
        st.sampled_from(["10.0.0.1", "10.0.0.2"]),
        st.sampled_from([None, "p"]),
        NODES,
    )
    | st.builds(
        lambda name, ip, node, account: build_pod(name, ip, {"app": name}, node=node, account=account),
        st.sampled_from("pq"),
        ADDRESSES,
        NODES,
        st.sampled_from("xy"),
    )
    | st.builds(lambda name, ip, node: build_proxy(name, ip, node=node), st.sampled_from("rst"), ADDRESSES, NODES)
    | st.builds(
        lambda mode: build_namespace(**({ENCRYPTION: mode} if mode else {})), st.sampled_from(["", "strict", "wrong"])
    )
)
TRANSPORT_EVENTS = st.builds(Applied, TRANSPORT_RESOURCES) | st.builds(
    lambda each: Deleted(type(each), each.key), TRANSPORT_RESOURCES
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(TRANSPORT_EVENTS, max_size=4), max_size=12))
def test_full_and_incremental_results_with_a_transport_are_always_equal(batches):
    engine = start(transport=FakeTransport())
    cluster, pulled = apply_batches(engine, batches)
    fresh = start(*cluster.values(), assigned=engine.list_assigned(), transport=FakeTransport())
    assert engine.list_reports() == fresh.list_reports()
    assert without_revisions(pull(engine)) == without_revisions(pull(fresh))
    assert drop_empty(pulled) == drop_empty(pull(engine))
    assert engine.dependencies.count_reads() == fresh.dependencies.count_reads()
