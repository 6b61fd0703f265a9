"""What is merged from deltas is what a controller would give whole."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.errors import UpdateRejectedError
from maesh_core.model.configuration import HttpRouter, Middleware, NamedServer, Section, Server, Service
from maesh_core.model.messages import Update, parse_update, render_update
from maesh_core.model.transport import ClientEntry, TransportSection
from maesh_core.proxy.node.encoded_configuration import EncodedConfiguration

ROUTER = HttpRouter(entrypoint=5000, hosts=("h",), service="s")
SERVICE = Service(servers=(Server(address="10.0.0.1", port=80),))
BASE = Update(
    revision="e.1",
    full=True,
    plugins=("acl",),
    sections={
        "http": Section(routers={"r": ROUTER}, services={"s": SERVICE}, middlewares={"m": Middleware(kind="k")}),
        "udp": Section(routers={"u": {"entrypoint": 15000, "anything": [1, {"x": None}]}}),
    },
)


def parse(body: bytes) -> Update:
    update = parse_update(body, {"http": HttpRouter})
    sections = {key: section for key, section in update.sections.items() if section != Section()}
    return Update(revision=update.revision, full=update.full, plugins=update.plugins, sections=sections)


def test_a_whole_comes_out_as_it_came_in() -> None:
    whole = EncodedConfiguration().merge(render_update(BASE), None)
    assert parse(whole.render()) == BASE
    assert (whole.revision, whole.plugins) == ("e.1", ("acl",))


def test_a_delta_adds_replaces_and_removes_and_the_base_stays_as_it_is() -> None:
    base = EncodedConfiguration().merge(render_update(BASE), None)
    before = base.render()
    delta = Update(
        revision="e.2",
        full=False,
        sections={"http": Section(services={"s": Service(), "t": SERVICE}), "new": Section(services={"n": SERVICE})},
        removed=("http/middlewares/m", "udp/routers/u", "gone/routers/x"),
    )
    update = parse(base.merge(render_update(delta), "e.1").render())
    assert update.sections["http"] == Section(routers={"r": ROUTER}, services={"s": Service(), "t": SERVICE})
    assert update.sections["new"].services == {"n": SERVICE}
    assert "udp" not in update.sections
    assert (update.revision, update.full, update.plugins) == ("e.2", True, ())
    assert base.render() == before


def test_the_names_of_servers_are_listed_once_whatever_else_says_names() -> None:
    named = Service(names=(NamedServer(name="a.example.com", port=80), NamedServer(name="b.example.com", port=80)))
    section = Section(services={"s": named, "t": Service(names=named.names[:1]), "u": SERVICE})
    other = Section(services={"s": {"names": 5}, "t": {"x": {"names": ["c"]}}})  # type: ignore[dict-item]
    update = Update(revision="e.1", full=True, sections={"http": section, "tcp": section, "lost": other})
    whole = EncodedConfiguration().merge(render_update(update), None)
    assert whole.list_names() == {"a.example.com", "b.example.com"}
    assert EncodedConfiguration().list_names() == frozenset()


KEYS = st.sampled_from(["a", "b", "a/b:80"])


def test_the_section_of_a_transport_is_kept_and_merged() -> None:
    entry = ClientEntry(node="n1", account="x@n")
    first = TransportSection(nodes={"n1": {"port": 1}, "n2": {"port": 2}}, clients={"10.0.0.1": entry})
    whole = EncodedConfiguration().merge(render_update(Update(revision="e.1", full=True, transport=first)), None)
    assert parse_transport(whole.render()) == first
    delta = Update(
        revision="e.2",
        full=False,
        transport=TransportSection(nodes={"n1": {"port": 3}}, clients={"10.0.0.2": entry}),
        removed=("transport/nodes/n2", "transport/clients/10.0.0.1", "transport/clients/10.0.0.9"),
    )
    merged = whole.merge(render_update(delta), "e.1")
    assert parse_transport(merged.render()) == TransportSection(nodes={"n1": {"port": 3}}, clients={"10.0.0.2": entry})
    assert not merged.has_service("n1")


def parse_transport(body: bytes) -> TransportSection:
    found = parse_update(body, {}, node_type=dict).transport
    assert found is not None
    return found


def parse_names(body: bytes) -> Any:
    return parse_update(body, {}, reads_pods=True).pods


NAME_STEPS = st.lists(
    st.tuples(st.sampled_from(["10.0.0.1", "10.0.0.2", "::1"]), st.sampled_from(["", "n/p", "n/q"])), max_size=8
)


@given(NAME_STEPS)
def test_deltas_of_the_names_of_pods_amount_to_a_model_of_a_dict(steps: list[tuple[str, str]]) -> None:
    first = Update(revision="0", full=True, pods={"10.0.0.9": "n/r"})
    whole = EncodedConfiguration().merge(render_update(first), None)
    model = {"10.0.0.9": "n/r"}
    for number, (address, name) in enumerate(steps):
        if name:
            model[address] = name
        else:
            model.pop(address, None)
        removed = () if name else (f"pods/addresses/{address}",)
        added = {address: name} if name else None
        delta = Update(revision=str(number + 1), full=False, pods=added, removed=removed)
        whole = whole.merge(render_update(delta), str(number))
    assert parse_names(whole.render()) == model


def test_the_names_of_pods_can_be_left_out() -> None:
    named = msgspec.structs.replace(BASE, pods={"10.0.0.1": "n/p"})
    whole = EncodedConfiguration().merge(render_update(named), None)
    assert parse_names(whole.render()) == {"10.0.0.1": "n/p"}
    assert whole.without_pods().render() == EncodedConfiguration().merge(render_update(BASE), None).render()


STEPS = st.lists(st.tuples(st.sampled_from(["routers", "services"]), KEYS, st.integers(-1, 3)), max_size=12)


@given(STEPS)
def test_deltas_one_by_one_amount_to_a_model_of_dicts(steps: list[tuple[str, str, int]]) -> None:
    whole = EncodedConfiguration().merge(render_update(Update(revision="0", full=True)), None)
    model: dict[str, dict[str, Any]] = {"routers": {}, "services": {}}
    for number, (noun, key, value) in enumerate(steps):
        added: dict[str, Any] = {}
        if value < 0:
            model[noun].pop(key, None)
        else:
            item: Any = ROUTER if noun == "routers" else Service(revision=value)
            added = {key: item}
            model[noun][key] = item
        removed = (f"http/{noun}/{key}",) if value < 0 else ()
        delta = Update(
            revision=str(number + 1), full=False, sections={"http": Section(**{noun: added})}, removed=removed
        )
        whole = whole.merge(render_update(delta), str(number))
    assert parse(whole.render()).sections.get("http", Section()) == Section(**model)


@pytest.mark.parametrize("since", [None, "e.0"])
def test_a_part_that_does_not_fit_is_refused(since: str | None) -> None:
    base = EncodedConfiguration().merge(render_update(BASE), None)
    with pytest.raises(UpdateRejectedError, match="but a full one is needed"):
        base.merge(render_update(Update(revision="e.2", full=False)), since)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'{"revision": 1, "full": true}', b'{"x":' * 100_000])
def test_garbage_is_refused(body: bytes) -> None:
    with pytest.raises(UpdateRejectedError):
        EncodedConfiguration().merge(body, None)


@given(st.binary(max_size=100))
def test_nothing_but_a_refusal_is_ever_raised(body: bytes) -> None:
    with pytest.raises(UpdateRejectedError):
        EncodedConfiguration().merge(body, None)


def test_routers_and_services_are_found() -> None:
    whole = EncodedConfiguration().merge(render_update(BASE), None)
    assert list(whole.find_routers("http", 5000)) == ["http/routers/r"]
    assert list(whole.find_routers("http", 5001)) == []
    assert list(whole.find_routers("none", 5000)) == []
    own = HttpRouter(entrypoint=5000, hosts=(), own_entrypoint=20000)
    change = Update(revision="e.9", full=False, sections={"http": Section(routers={"own": own})})
    whole = whole.merge(render_update(change), whole.revision)
    assert list(whole.find_routers("http", 20000)) == ["http/routers/own"]
    assert [whole.has_service(key) for key in ("s", "r", "x")] == [True, True, False]
