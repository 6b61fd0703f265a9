"""Rules of ports in an engine: who uses those for clients of a namespace, who learns of problems, and what it costs."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.model.events import Applied, Deleted
from maesh_core.model.findings import Findings
from maesh_core.model.keys import ObjectKey
from maesh_core.model.matches import HttpMatch
from maesh_core.model.resources import Pod, Service
from maesh_core.model.topology import (
    AnswerNode,
    BackendNode,
    BranchNode,
    FilterNode,
    OrderedMatch,
    PortRules,
    RuleTable,
)
from maesh_core.plugin_system.hookspecs import Addition

from .engine_setup import build_pod, build_service, build_slice, pull, start

RULES, CONSUMER, FILTER = "example.org/rules", "example.org/consumer", "example.org/filter"
"""Annotations of the test's builder: backends of rules, a namespace with rules of its own, and a filter."""
ROUTE = (Pod, ObjectKey("n", "route"))


class RuleBuilder:
    """Builds rules of a port from annotations; each backend that is named has a rule."""

    name = "ruler"

    def build(self, view, node):
        names = node.annotations.get(RULES, "").split()
        if not names:
            return None
        table = RuleTable(
            no_match=AnswerNode(404, "no rule"),
            rules=tuple(self._build_rule(view, node, name) for name in names),
            order=tuple(
                OrderedMatch(match=HttpMatch(path_prefix=f"/{name}"), rule=at) for at, name in enumerate(names)
            ),
        )
        consumer = node.annotations.get(CONSUMER)
        rules = PortRules(consumers={consumer: table}) if consumer else PortRules(producer=table)
        return Addition(rules={(80, "TCP"): rules})

    def _build_rule(self, view, node, name):
        filters = (FilterNode(name=node.annotations[FILTER]),) if FILTER in node.annotations else ()
        key = ObjectKey(node.key.namespace, name)
        backend = view.build_service(key)
        port = backend.ports[0] if backend is not None else None
        answer = AnswerNode(500, f"no service {name}") if port is None else None
        found = BackendNode(service=key, weight=1, port=port, answer=answer)
        return BranchNode(
            name=f"r/{name}", backends=(found,), filters=filters, keeps_shares=True, origin=ROUTE, label=name
        )


def start_ruled(*resources):
    return start(*resources, builders=(RuleBuilder(),))


def make_ruled(name="a", *, rules="v1 v2", **annotations):
    return build_service(name, annotations={RULES: rules, **annotations})


def make_backends(count=2):
    for number in range(1, count + 1):
        yield build_service(f"v{number}")
        yield build_slice(f"s{number}", f"v{number}", address=f"10.0.1.{number}")


def in_namespace(pod, namespace):
    return msgspec.structs.replace(pod, metadata=msgspec.structs.replace(pod.metadata, namespace=namespace))


def read_clients(engine):
    return pull(engine).get("clients", {"sources": {}})["sources"]


def test_a_changed_pod_of_a_backend_changes_that_backend_of_each_service_that_uses_it():
    engine = start_ruled(make_ruled("a", rules="v1 v2 v1x"), make_ruled("b", rules="v2"), *make_backends())
    since = engine.revision
    engine.apply([Applied(build_slice("s1", "v1", address="10.0.1.9"))], source="s")
    changed = pull(engine, since)
    assert sorted(changed["http"]["services"]) == ["n/a:80/backend/n/v1:80", "n/v1:80"]
    assert (changed["http"]["routers"], changed["removed"]) == ({}, [])


def test_a_backend_that_appears_or_disappears_changes_only_its_rule():
    engine = start_ruled(make_ruled(rules="v1 gone"), *make_backends(1))
    assert pull(engine)["http"]["services"]["n/a:80/answer/0"]["answer"]["reason"] == "no service gone"
    since = engine.revision
    engine.apply([Applied(build_service("gone"))], source="s")
    changed = pull(engine, since)["http"]
    assert sorted(changed["services"]) == ["n/a:80/backend/n/gone:80", "n/a:80/rule/r/gone", "n/gone:80"]
    engine.apply([Deleted(Service, ObjectKey("n", "gone"))], source="s")
    assert "n/a:80/answer/0" in pull(engine)["http"]["services"]


def test_without_rules_for_clients_of_a_namespace_there_is_no_section_and_no_index_of_addresses():
    engine = start_ruled(make_ruled(), *make_backends(), build_pod("p", "10.0.0.1"))
    assert "clients" not in pull(engine)
    assert not engine.objects._store(Pod)._indexes["address"].is_built


def test_pods_of_a_namespace_with_rules_of_its_own_are_sent_with_the_rules():
    mine, other = build_pod("p", "10.0.0.1"), in_namespace(build_pod("q", "10.0.0.2"), "other")
    engine = start_ruled(make_ruled(**{CONSUMER: "n"}), *make_backends(), mine, other)
    assert read_clients(engine) == {"10.0.0.1": "n"}
    router = pull(engine)["http"]["routers"]["n/a:80"]
    assert router["fallback"] == "n/a:80"
    assert [each["service"] for each in router["consumers"]["n"]["rules"]] == [
        "n/a:80/consumer/n/r/v1",
        "n/a:80/consumer/n/r/v2",
    ]
    engine.apply([Applied(build_pod("r", "10.0.0.3"))], source="s")
    assert read_clients(engine) == {"10.0.0.1": "n", "10.0.0.3": "n"}
    engine.apply([Applied(in_namespace(build_pod("s", "10.0.0.3"), "other"))], source="s")
    assert read_clients(engine) == {"10.0.0.1": "n"}


def test_the_section_ends_with_the_last_rules_for_clients_of_a_namespace():
    engine = start_ruled(make_ruled(**{CONSUMER: "n"}), *make_backends(), build_pod("p", "10.0.0.1"))
    engine.apply([Applied(make_ruled())], source="s")
    assert read_clients(engine) == {}
    engine.apply([Applied(make_ruled(**{CONSUMER: "n"}))], source="s")
    assert read_clients(engine) == {"10.0.0.1": "n"}


def test_a_filter_that_cannot_be_built_is_an_error_of_its_object_and_known_to_builders_of_statuses():
    engine = start_ruled(make_ruled(rules="v1", **{FILTER: "Unknown"}), *make_backends(1))
    (problem,) = engine.find_finished(ObjectKey("n", "a")).rule_problems
    assert (problem.filter, problem.rule, problem.origin) == ("Unknown", "r/v1", ROUTE)
    found = {subject.key: each for subject, each in engine.reports.copy_found().items() if subject.kind == "Pod"}
    assert found[ROUTE[1]] == Findings(errors=("rule v1: no enabled plugin builds filter Unknown",))
    assert engine.find_finished(ObjectKey("n", "v1")).rule_problems == ()


_EVENTS = st.lists(
    st.sampled_from(
        [
            Applied(make_ruled(**{CONSUMER: "n"})),
            Applied(make_ruled(**{CONSUMER: "other"})),
            Applied(make_ruled()),
            Applied(build_pod("p", "10.0.0.1")),
            Applied(build_pod("q", "10.0.0.1")),
            Applied(in_namespace(build_pod("p", "10.0.0.1"), "other")),
            Applied(in_namespace(build_pod("p", "10.0.0.2"), "other")),
            Deleted(Pod, ObjectKey("n", "p")),
            Deleted(Pod, ObjectKey("other", "p")),
            Deleted(Service, ObjectKey("n", "a")),
        ]
    ),
    max_size=12,
)


@given(events=_EVENTS)
def test_whatever_happens_the_configuration_is_that_of_a_controller_that_starts_then(events):
    engine = start_ruled(*make_backends())
    for event in events:
        engine.apply([event], source="s")
    snapshot = engine.objects
    resources = [snapshot.get(type_, key) for type_ in (Service, Pod) for key in snapshot.keys(type_)]
    slices = [each for each in make_backends() if type(each) is not Service]
    fresh = start_ruled(*resources, *slices)
    drop = lambda found: {key: value for key, value in found.items() if key != "revision"}  # noqa: E731
    assert drop(_without_revisions(pull(engine))) == drop(_without_revisions(pull(fresh)))


def _without_revisions(document):
    if not isinstance(document, dict):
        return document
    return {key: _without_revisions(value) for key, value in document.items() if key != "revision" and value}
