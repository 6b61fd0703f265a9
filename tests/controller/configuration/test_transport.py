"""The entries of the section `transport`, and their changes."""

import logging

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.controller.configuration.transport import TransportTables
from maesh_core.model.keys import ObjectKey
from maesh_core.model.transport import ClientEntry
from maesh_core.plugin_system.transports import MeshNode


class Described(msgspec.Struct, frozen=True):
    name: str


class Rules:
    name = "fake"
    annotations: tuple[str, ...] = ()

    def __init__(self, describe=lambda node: Described(node.name)):
        self.described = []
        self._describe = describe

    def build_mode(self, annotations, service):
        return "off"

    def describe_node(self, node):
        self.described.append(node.name)
        return self._describe(node)


def build_nodes(*names):
    return {name: MeshNode(name) for name in names}


def test_only_nodes_that_differ_are_described():
    rules = Rules()
    tables = TransportTables(rules)
    assert tables.set_nodes(build_nodes("a", "b")) == {
        ("transport", "nodes", "a"): Described("a"),
        ("transport", "nodes", "b"): Described("b"),
    }
    changes = tables.set_nodes({"a": None, "x": None, **build_nodes("b", "c")})
    assert changes == {("transport", "nodes", "a"): None, ("transport", "nodes", "c"): Described("c")}
    assert rules.described == ["a", "b", "c"]


def fail(node):
    raise RuntimeError("boom")


def test_a_node_that_cannot_be_described_takes_no_part_and_is_logged_once(caplog):
    tables = TransportTables(Rules(fail))
    assert tables.set_nodes(build_nodes("a")) == {}
    assert tables.set_nodes({"a": None}) == {}
    assert tables.set_nodes(build_nodes("a")) == {}
    assert caplog.messages == ["node a takes no part in transport fake: RuntimeError: boom"]


def test_a_description_that_cannot_be_sent_counts_as_none(caplog):
    caplog.set_level(logging.ERROR)
    tables = TransportTables(Rules(lambda node: object()))
    assert tables.set_nodes(build_nodes("a")) == {}
    assert "node a takes no part" in caplog.text


SERVICES = [ObjectKey("n", name) for name in "abc"]
CLIENTS = st.dictionaries(st.sampled_from(["10.0.0.1", "10.0.0.2"]), st.just(ClientEntry("n1", "x@n")))


@given(st.lists(st.tuples(st.sampled_from(SERVICES), CLIENTS)))
def test_the_entries_are_those_of_all_services(steps):
    tables = TransportTables(Rules())
    named, entries = {}, {}
    for service, clients in steps:
        named[service] = clients
        for (section, noun, address), entry in tables.set_clients(service, clients).items():
            assert (section, noun) == ("transport", "clients")
            if entry is None:
                del entries[address]
            else:
                entries[address] = entry
        assert entries == {address: entry for each in named.values() for address, entry in each.items()}


class Shared(msgspec.Struct, frozen=True):
    text: str


class ReportingRules(Rules):
    """Rules that share something, and whose descriptions change."""

    text = "1"
    left_out = ""

    def __init__(self):
        super().__init__(lambda node: Described(f"{node.name}{self.text}") if node.name != self.left_out else None)

    def describe_mesh(self):
        if self.text == "bad":
            raise RuntimeError("boom")
        return Shared(self.text) if self.text else None


def test_all_nodes_and_what_they_share_are_described_again_on_request(caplog):
    rules = ReportingRules()
    tables = TransportTables(rules)
    tables.set_nodes(build_nodes("a", "b"))
    assert tables.refresh_shared() == {("transport", "shared", "fake"): Shared("1")}
    assert tables.refresh() == {}
    rules.text, rules.left_out = "2", "b"
    changes = {
        ("transport", "shared", "fake"): Shared("2"),
        ("transport", "nodes", "a"): Described("a2"),
        ("transport", "nodes", "b"): None,
    }
    assert tables.refresh() == changes
    assert tables.described == {"a": Described("a2")}
    rules.left_out = ""
    assert tables.refresh() == {("transport", "nodes", "b"): Described("b2")}
    rules.text = "bad"
    assert tables.refresh_shared() == {}
    assert caplog.messages == ["transport fake shares nothing new: RuntimeError: boom"]
    rules.text = ""
    assert tables.refresh_shared() == {("transport", "shared", "fake"): None}
