"""The namespaces of clients in the configuration: after any events, those of all pods that may call by name alone."""

import json

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.model.events import Applied, Deleted
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import Pod, Service

from .engine_setup import build_pod, build_service, pull, start

NAMESPACES, ADDRESSES = "ab", ["10.0.0.1", "10.0.0.2"]


def start_mesh(*resources):
    return start(*resources, sends_namespaces=True)


def move(pod, namespace):
    return msgspec.structs.replace(pod, metadata=msgspec.structs.replace(pod.metadata, namespace=namespace))


def read_sources(engine):
    return pull(engine).get("clients", {"sources": {}})["sources"]


def test_without_a_plugin_that_asks_nothing_is_sent_and_no_index_of_addresses_is_built():
    engine = start(build_service(), build_pod("p", "10.0.0.1"))
    assert (engine.client_namespaces, engine.collects) == (None, False)
    assert "clients" not in pull(engine)
    assert not engine.objects._store(Pod)._indexes["address"].is_built


def test_pods_of_a_namespace_with_a_service_are_sent_and_changes_rebuild_none():
    engine = start_mesh(build_service(), build_pod("p", "10.0.0.1"), move(build_pod("p", "10.0.0.2"), "other"))
    first, count = engine.revision, engine.rebuilt_count
    assert read_sources(engine) == {"10.0.0.1": "n"}
    engine.apply([Applied(build_pod("q", "10.0.0.3"))], source="s")
    assert engine.revision == first
    engine.publish_collected()
    delta = pull(engine, first)
    assert delta["clients"] == {"sources": {"10.0.0.3": "n"}}
    assert (delta["http"]["services"], engine.rebuilt_count) == ({}, count)


PODS = st.builds(
    lambda name, ip, namespace: move(build_pod(name, ip), namespace),
    st.sampled_from("pq"),
    st.sampled_from(["", *ADDRESSES]),
    st.sampled_from(NAMESPACES),
)
SERVICES = st.builds(
    lambda namespace, mode: build_service(
        namespace=namespace, annotations={"mesh.traefik.io/traffic-type": mode} if mode else {}
    ),
    st.sampled_from(NAMESPACES),
    st.sampled_from(["", "tcp"]),
)
DELETED = st.builds(
    lambda type_, namespace, name: Deleted(type_, ObjectKey(namespace, "a" if type_ is Service else name)),
    st.sampled_from([Pod, Service]),
    st.sampled_from(NAMESPACES),
    st.sampled_from("pq"),
)


def expect(objects):
    """List the addresses of pods of one namespace that has an HTTP service."""
    called = {key.namespace for key, each in objects.items() if type(each) is Service and not each.metadata.annotations}
    owners: dict[str, set[str]] = {}
    for key, each in objects.items():
        for address in each.addresses if isinstance(each, Pod) else ():
            owners.setdefault(address, set()).add(key.namespace)
    return {
        address: namespace for address, (namespace, *others) in owners.items() if not others and namespace in called
    }


@given(st.lists(st.lists(st.builds(Applied, PODS | SERVICES) | DELETED, max_size=3), max_size=6))
def test_step_by_step_the_namespaces_become_those_of_a_first_build(batches):
    engine, objects = start_mesh(), {}
    revision, sources = engine.revision, {}
    for batch in batches:
        engine.apply(batch, source="s")
        engine.publish_collected()
        for event in batch:
            if isinstance(event, Applied):
                objects[event.resource.key] = event.resource
            elif type(objects.get(event.key)) is event.type:
                del objects[event.key]
        body = engine.render_configuration(revision)
        delta = json.loads(body) if body is not None else {"removed": [], "revision": revision}
        for path in delta["removed"]:
            sources.pop(path.removeprefix("clients/sources/"), None)
        sources.update(delta.get("clients", {}).get("sources", {}))
        revision = delta["revision"]
        assert sources == expect(objects)
    assert sources == read_sources(engine) == read_sources(start_mesh(*objects.values()))
