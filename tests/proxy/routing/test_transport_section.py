"""The section `transport` in a worker: what its transport is given, and when."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.errors import UpdateRejectedError
from maesh_core.model.messages import Update, parse_update, render_update
from maesh_core.model.transport import ClientEntry, TransportSection

from .recording_proxy import BASE, FakeNode, FakeTransport, Proxy

N1, N2 = FakeNode(("10.0.0.9",)), FakeNode(("10.0.0.8", "10.0.0.7"))
CLIENT = ClientEntry(node="n1", account="x@n")


def build_section(clients: Any = None, **nodes: FakeNode) -> TransportSection:
    return TransportSection(nodes=nodes, clients=clients or {})


def build_proxy() -> tuple[Proxy, FakeTransport]:
    transport = FakeTransport()
    return Proxy(transport=transport), transport


def test_the_nodes_are_applied_before_the_tables_of_the_same_update() -> None:
    proxy, transport = build_proxy()
    transport.on_apply = lambda: seen.append(len(proxy.http.tables))
    seen: list[int] = []
    proxy.apply(full=True, sections={"http": BASE}, transport=build_section(n1=N1))
    assert (seen, len(proxy.http.tables)) == ([0], 1)
    assert transport.applied == [({"n1": N1}, {})]


def test_the_first_configuration_is_applied_even_without_nodes() -> None:
    proxy, transport = build_proxy()
    proxy.apply(full=True)
    assert transport.applied == [({}, {})]


def test_changes_are_merged_and_what_does_not_change_is_not_applied_again() -> None:
    proxy, transport = build_proxy()
    proxy.apply(full=True, transport=build_section({"10.0.0.1": CLIENT}, n1=N1))
    proxy.apply(transport=build_section(n2=N2))
    proxy.apply(sections={"http": BASE})
    proxy.apply(removed=("transport/nodes/n1", "transport/clients/10.0.0.1"))
    proxy.apply(full=True, transport=build_section(n2=N2))
    proxy.apply(full=True)
    assert transport.applied == [
        ({"n1": N1}, {"10.0.0.1": CLIENT}),
        ({"n1": N1, "n2": N2}, {"10.0.0.1": CLIENT}),
        ({"n2": N2}, {}),
        ({}, {}),
    ]


def test_an_update_that_a_protocol_refuses_changes_no_nodes() -> None:
    proxy, transport = build_proxy()
    proxy.apply(full=True)
    proxy.http.error = RuntimeError("no")
    with pytest.raises(UpdateRejectedError):
        proxy.apply(full=True, sections={"http": BASE}, transport=build_section(n1=N1))
    assert transport.applied == [({}, {})]


def test_an_update_that_the_transport_refuses_changes_no_table() -> None:
    proxy, transport = build_proxy()
    proxy.apply(full=True)
    transport.error = RuntimeError("no")
    with pytest.raises(UpdateRejectedError, match="the transport refused it: RuntimeError: no"):
        proxy.apply(full=True, sections={"http": BASE}, transport=build_section(n1=N1))
    assert (len(proxy.http.tables), proxy.configuration.revision) == (1, "e.1")


def test_a_proxy_without_a_transport_ignores_the_section() -> None:
    proxy = Proxy()
    document = {"revision": "e.1", "full": True, "transport": {"nodes": {"n1": {"addresses": 1}}}}
    update = parse_update(json.dumps(document).encode(), proxy.configuration.get_router_types())
    proxy.configuration.apply_update(update, since=None)
    proxy.apply(since="e.1", revision="e.2", removed=("transport/nodes/n1",))
    assert proxy.configuration.revision == "e.2"
    assert proxy.configuration.refused == {}


@pytest.mark.parametrize(
    "section",
    [
        [],
        {"nodes": []},
        {"nodes": {"n1": {"addresses": "x"}}},
        {"nodes": {"n1": None}},
        {"nodes": {"N O": {"addresses": []}}},
        {"nodes": {"": {"addresses": []}}},
        {"clients": {"10.0.0.1": {"node": "n1"}}},
        {"clients": {"10.0.0.1": {"node": "N O", "account": "x@n"}}},
        {"clients": {"10.0.0.1": {"node": "n1", "account": ""}}},
        {"clients": {"10.0.0.1": {"node": "n1", "account": "x\n@n"}}},
        {"clients": {"10.0.0.1": {"node": "n1", "account": "x" * 513}}},
        {"clients": {"name": {"node": "n1", "account": "x@n"}}},
    ],
)
def test_a_malformed_section_refuses_the_whole_update(section: Any) -> None:
    proxy, transport = build_proxy()
    body = json.dumps({"revision": "e.1", "full": True, "transport": section}).encode()
    with pytest.raises(UpdateRejectedError):
        proxy.configuration.apply_update(parse_update(body, {}, node_type=FakeNode), since=None)
    assert (transport.applied, proxy.configuration.revision) == ([], None)


ENTRIES = st.dictionaries(st.sampled_from(["n1", "n2", "n3"]), st.sampled_from([N1, N2]))
CLIENTS = st.dictionaries(st.sampled_from(["10.0.0.1", "::1"]), st.builds(ClientEntry, st.just("n1"), st.just("x@n")))
PATHS = st.sampled_from(
    ["transport/nodes/n1", "transport/nodes/n2", "transport/clients/10.0.0.1", "transport/clients/::1"]
)


@given(st.lists(st.tuples(ENTRIES, CLIENTS, st.lists(PATHS, max_size=3)), max_size=6))
def test_deltas_lead_to_what_one_full_update_does(deltas: list[Any]) -> None:
    proxy, transport = build_proxy()
    proxy.apply(full=True)
    model: dict[str, dict[str, Any]] = {"nodes": {}, "clients": {}}
    for nodes, clients, removed in deltas:
        for path in removed:
            _, noun, key = path.split("/")
            model[noun].pop(key, None)
        model["nodes"].update(nodes)
        model["clients"].update(clients)
        delta = Update(
            revision=f"e.{proxy.applied + 1}",
            full=False,
            removed=tuple(removed),
            transport=TransportSection(nodes=nodes, clients=clients),
        )
        parsed = parse_update(render_update(delta), {}, node_type=FakeNode)
        proxy.configuration.apply_update(parsed, since=proxy.configuration.revision)
        proxy.applied += 1
    assert transport.applied[-1] == (model["nodes"], model["clients"])
