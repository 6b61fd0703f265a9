"""The names of pods in the configuration: sent only if a plugin asks for them, and always those of the current pods."""

import json

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.controller.metrics import collect_engine_metrics
from maesh_core.model.events import Applied, Deleted
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import Pod

from .engine_setup import build_engine, build_pod, build_service, build_slice, list_all, pull, start


def start_mesh(*resources):
    return start(*resources, sends_pod_names=True)


def read_names(engine):
    return pull(engine).get("pods", {"addresses": {}})["addresses"]


def on_host(pod):
    return msgspec.structs.replace(pod, spec=msgspec.structs.replace(pod.spec, host_network=True))


def end(pod):
    return msgspec.structs.replace(pod, status=msgspec.structs.replace(pod.status, phase="Succeeded"))


def apply(engine, *events):
    """Apply events, and publish the names as the controller does after a pause."""
    engine.apply(events, source="s")
    engine.publish_collected()


def delete(name):
    return Deleted(Pod, ObjectKey("n", name))


def test_without_a_plugin_that_asks_the_document_has_no_names_and_no_index_of_addresses_is_built():
    resources = (build_service(), build_slice("s", "a", pod="p"))
    engine = start(*resources, build_pod("p", "10.0.0.1"))
    assert b"pods" not in engine.render_configuration(None)
    assert engine.pod_names is None
    before = engine.revision
    apply(engine, Applied(build_pod("q", "10.0.0.2")))
    assert engine.revision == before
    assert not engine.objects._store(Pod)._indexes["address"].is_built
    assert [each for each in collect_engine_metrics(engine, (), ()) if "pod_names" in each.name] == []


def test_without_pods_the_document_is_the_same_as_without_a_plugin_that_asks():
    assert start_mesh(build_service()).render_configuration(None) == start(build_service()).render_configuration(None)


def test_every_pod_is_named_whether_or_not_it_belongs_to_a_service():
    engine = start_mesh(
        build_service(),
        build_slice("s", "a", pod="p"),
        build_pod("p", "10.0.0.1"),
        build_pod("job", "10.0.0.2"),
        build_pod("pending", ""),
        on_host(build_pod("agent", "10.0.0.3")),
        end(build_pod("done", "10.0.0.4")),
    )
    assert read_names(engine) == {"10.0.0.1": "n/p", "10.0.0.2": "n/job"}


def test_changes_are_sent_alone_and_rebuild_no_service():
    engine = start_mesh(build_service(), build_pod("p", "10.0.0.1"))
    first, count = engine.revision, engine.rebuilt_count
    apply(engine, Applied(build_pod("q", "10.0.0.2")))
    delta = pull(engine, first)
    assert delta["pods"] == {"addresses": {"10.0.0.2": "n/q"}}
    assert (delta["http"]["services"], delta["removed"], engine.rebuilt_count) == ({}, [], count)
    second = engine.revision
    apply(engine, delete("p"))
    delta = pull(engine, second)
    assert delta["removed"] == ["pods/addresses/10.0.0.1"]
    assert "pods" not in delta
    apply(engine, Applied(build_pod("q", "10.0.0.2", {"app": "x"})))
    assert engine.revision == delta["revision"]


def test_changes_of_names_wait_to_be_published_together_or_with_another_change():
    engine, woken = start_mesh(build_service()), []
    engine.on_revision(lambda: woken.append(engine.revision))
    engine.apply([Applied(build_pod("p", "10.0.0.1"))], source="s")
    engine.apply([Applied(build_pod("q", "10.0.0.2"))], source="s")
    assert (read_names(engine), woken) == ({}, [])
    engine.publish_collected()
    engine.publish_collected()
    assert (read_names(engine), woken) == ({"10.0.0.1": "n/p", "10.0.0.2": "n/q"}, ["e.2"])
    engine.apply([delete("q")], source="s")
    engine.apply([Applied(build_service("b"))], source="s")
    assert (read_names(engine), woken) == ({"10.0.0.1": "n/p"}, ["e.2", "e.3"])


def test_before_the_first_build_nothing_is_published():
    engine = build_engine(sends_pod_names=True)
    engine.apply([Applied(build_pod("p", "10.0.0.1"))], source="s")
    engine.publish_collected()
    assert (engine.is_ready, engine.revision) == (False, "e.0")
    engine.apply(list_all(build_pod("p", "10.0.0.1")), source="s")
    assert read_names(engine) == {"10.0.0.1": "n/p"}


def test_an_address_that_is_used_again_names_the_new_pod():
    engine = start_mesh(build_pod("p", "10.0.0.1"))
    apply(engine, Applied(end(build_pod("p", "10.0.0.1"))))
    assert read_names(engine) == {}
    apply(engine, Applied(build_pod("q", "10.0.0.1")))
    assert read_names(engine) == {"10.0.0.1": "n/q"}
    apply(engine, Applied(build_pod("r", "10.0.0.1")))
    assert read_names(engine) == {}, "two pods have it"
    apply(engine, delete("q"))
    assert read_names(engine) == {"10.0.0.1": "n/r"}


def test_addresses_are_counted():
    engine = start_mesh(build_pod("p", "10.0.0.1"))
    (found,) = [each for each in collect_engine_metrics(engine, (), ()) if "pod_names" in each.name]
    assert found.samples == ((("left_out",), 0), (("sent",), 1))


PODS = st.builds(
    lambda name, ip, change: change(build_pod(name, ip)),
    st.sampled_from("pqr"),
    st.sampled_from(["", "10.0.0.1", "10.0.0.2", "FD00::1"]),
    st.sampled_from([lambda pod: pod, on_host, end]),
)
EVENTS = st.builds(Applied, PODS) | st.builds(delete, st.sampled_from("pqr"))


@given(st.lists(st.lists(EVENTS, max_size=3), max_size=6))
def test_step_by_step_the_names_become_those_of_a_first_build(batches):
    engine, pods = start_mesh(), {}
    revision, names = engine.revision, {}
    for batch in batches:
        apply(engine, *batch)
        for event in batch:
            if isinstance(event, Applied):
                pods[event.resource.key] = event.resource
            else:
                pods.pop(event.key, None)
        body = engine.render_configuration(revision)
        delta = json.loads(body) if body is not None else {"removed": [], "revision": revision}
        for path in delta["removed"]:
            del names[path.removeprefix("pods/addresses/")]
        names.update(delta.get("pods", {}).get("addresses", {}))
        revision = delta["revision"]
    assert names == read_names(engine) == read_names(start_mesh(*pods.values()))
