"""The sections that are no protocol's: each has entries only if something needs it, and then the current ones."""

import msgspec
import pytest

from maesh_core.controller.rebuilds.optional_sections import OptionalSections
from maesh_core.controller.resources.kinds import CORE_KINDS
from maesh_core.controller.resources.snapshot import Snapshot
from maesh_core.controller.topology.rules import TopologyRules
from maesh_core.model.events import Applied, Deleted
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import Pod
from maesh_core.model.topology import AnswerNode, PortNode, RuleTable, ServiceNode

from .engine_setup import FakeTransport, build_pod, build_proxy

SERVICE = ObjectKey("n", "a")
PODS = (build_pod("p", "10.0.0.1"), build_pod("q", "10.0.0.2"))


class Sections:
    """Sections over a snapshot, as an engine updates them."""

    def __init__(self, *pods, transport=None, sends_pod_names=False, sends_namespaces=False, **rules):
        self.snapshot = Snapshot(CORE_KINDS)
        self.snapshot.apply([Applied(pod) for pod in pods], source="s")
        self.found = OptionalSections(
            self.snapshot,
            TopologyRules(**rules),
            transport,
            sends_pod_names=sends_pod_names,
            sends_namespaces=sends_namespaces,
        )
        self.first = render(self.found.update({}, (), is_everything=True))

    def apply(self, *events, nodes=None):
        affected = self.snapshot.apply(events, source="s")
        return render(self.found.update(nodes or {}, affected, is_everything=False))


def render(entries):
    return {"/".join(path): msgspec.to_builtins(entry) for path, entry in entries.items()}


def build_node(*, consumers=(), traffic_type="http"):
    rules = RuleTable(no_match=AnswerNode(status=404, reason="no rule"))
    port = PortNode(name="http", number=80, consumers=dict.fromkeys(consumers, rules))
    return ServiceNode(key=SERVICE, traffic_type=traffic_type, ports=(port,))


def test_nothing_is_sent_that_nothing_needs():
    sections = Sections(*PODS, build_proxy("x", "10.0.9.1", node="n1"))
    assert sections.first == {}
    assert sections.apply(Deleted(Pod, ObjectKey("n", "p")), nodes={SERVICE: build_node()}) == {}
    assert (sections.found.pod_names, sections.found.transport_nodes, sections.found.refresh_transport()) == (
        None,
        {},
        {},
    )


def test_a_transport_gets_the_nodes_of_the_mesh():
    sections = Sections(build_proxy("x", "10.0.9.1", node="n1"), transport=FakeTransport())
    assert "transport/nodes/n1" in sections.first
    assert list(sections.found.transport_nodes) == ["n1"]
    assert sections.apply(Deleted(Pod, ObjectKey("maesh", "x"))) == {"transport/nodes/n1": None}


def test_the_accounts_of_all_pods_are_sent_if_clients_are_named():
    sections = Sections(*PODS, names_clients=True)
    assert sorted(sections.first) == ["transport/clients/10.0.0.1", "transport/clients/10.0.0.2"]
    assert sections.apply(Deleted(Pod, ObjectKey("n", "p"))) == {"transport/clients/10.0.0.1": None}


def test_the_names_of_pods_wait_for_other_changes_or_until_they_are_taken():
    sections = Sections(*PODS, sends_pod_names=True)
    assert sections.first == {"pods/addresses/10.0.0.1": "n/p", "pods/addresses/10.0.0.2": "n/q"}
    assert sections.apply(Deleted(Pod, ObjectKey("n", "p"))) == {}
    assert render(sections.found.take_collected()) == {"pods/addresses/10.0.0.1": None}
    assert sections.apply(Deleted(Pod, ObjectKey("n", "q"))) == {}
    assert sections.apply(nodes={SERVICE: build_node()}) == {"pods/addresses/10.0.0.2": None}


@pytest.mark.parametrize("gone", [None, build_node()])
def test_the_clients_of_a_namespace_are_sent_while_a_service_has_rules_for_them(gone):
    sections = Sections(*PODS)
    assert sections.apply(nodes={SERVICE: build_node(consumers=("n",))}) == {
        "clients/sources/10.0.0.1": "n",
        "clients/sources/10.0.0.2": "n",
    }
    assert sections.apply(Applied(build_pod("r", "10.0.0.3"))) == {"clients/sources/10.0.0.3": "n"}
    assert set(sections.apply(nodes={SERVICE: gone}).values()) == {None}


def test_the_clients_of_a_namespace_with_an_http_service_are_sent_if_proxies_use_names_alone():
    sections = Sections(*PODS, build_proxy("x", "10.0.9.9", node="n1"), sends_namespaces=True)
    assert sections.found.collects
    assert sections.apply(nodes={SERVICE: build_node(traffic_type="tcp")}) == {}
    assert sections.apply(nodes={SERVICE: build_node()}) == {
        "clients/sources/10.0.0.1": "n",
        "clients/sources/10.0.0.2": "n",
    }
    assert sections.apply(Applied(build_pod("r", "10.0.0.3"))) == {}
    assert render(sections.found.take_collected()) == {"clients/sources/10.0.0.3": "n"}
    assert set(sections.apply(nodes={SERVICE: None}).values()) == {None}


def test_rules_for_the_clients_of_a_namespace_are_not_kept_waiting():
    sections = Sections(*PODS, sends_namespaces=True)
    sections.apply(nodes={SERVICE: build_node(consumers=("n",))})
    assert sections.apply(Applied(build_pod("r", "10.0.0.3"))) == {"clients/sources/10.0.0.3": "n"}
    assert set(sections.apply(nodes={SERVICE: build_node()})) >= {"clients/sources/10.0.0.3"}
    assert sections.apply(Deleted(Pod, ObjectKey("n", "p"))) == {}
    assert render(sections.found.take_collected()) == {"clients/sources/10.0.0.1": None}
