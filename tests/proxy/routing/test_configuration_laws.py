"""Random documents are applied or refused as a whole, and the order of updates leaves no trace."""

import json
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from maesh_core.errors import UpdateRejectedError
from maesh_core.model.configuration import HttpRouter, Middleware, Section, Server, Service, StreamRouter
from maesh_core.model.messages import Update, parse_update, render_update
from maesh_core.model.transport import ClientEntry, TransportSection
from maesh_core.proxy.routing.current_pod_names import CurrentPodNames

from .recording_proxy import BASE, FakeNode, FakeTransport, Proxy, service, stamp

VALID = json.loads(
    render_update(
        Update(
            revision="e.9",
            full=True,
            plugins=("retry",),
            sections={
                "http": BASE,
                "tcp": Section(
                    routers={"t": StreamRouter(entrypoint=10000, service="s")},
                    services={"s": Service(servers=(Server(address="::1", port=1, weight=0),))},
                ),
                "udp": Section(routers={"u": {"entrypoint": 15000, "service": "s"}}, services={"s": service()}),
            },
            transport=TransportSection(
                nodes={"n1": FakeNode(("10.0.0.9",))}, clients={"10.0.0.1": ClientEntry(node="n1", account="x@n")}
            ),
            pods={"10.0.0.1": "n/p", "::1": "n/q"},
        )
    )
)
JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["r", "s", "http/routers/r", "http/services/s", "10.0.0.1", "stamp", "\0", "h" * 2000]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def _list_places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * bool(path) + [place for key, inner in items for place in _list_places(inner, (*path, key))]


@st.composite
def mutated_documents(draw: st.DrawFn) -> bytes:
    document = json.loads(json.dumps(VALID))
    for _ in range(draw(st.integers(1, 3))):
        places = _list_places(document)
        if not places:
            break
        *way, last = draw(st.sampled_from(places))
        parent = document
        for key in way:
            parent = parent[key]
        action = draw(st.sampled_from(["replace", "remove", "rename"]))
        if action == "remove" or (action == "rename" and isinstance(parent, list)):
            del parent[last]
        elif action == "rename":
            parent[draw(st.text(max_size=5))] = parent.pop(last)
        else:
            parent[last] = draw(JUNK)
    body = json.dumps(document).encode()
    return body[: draw(st.integers(0, len(body)))] if draw(st.integers(0, 9)) == 0 else body


@given(body=st.one_of(mutated_documents(), st.binary(max_size=50)), has_base=st.booleans())
def test_any_document_is_applied_or_refused_as_a_whole(body: bytes, has_base: bool) -> None:
    transport, names = FakeTransport(), CurrentPodNames()
    proxy = Proxy(transport=transport, pod_names=names)
    configuration = proxy.configuration
    if has_base:
        proxy.apply(full=True, sections={"http": BASE})
    before = (
        configuration.revision,
        configuration.refused,
        configuration.list_entrypoints(),
        len(proxy.http.tables),
        len(transport.applied),
        names.changed_at,
    )
    try:
        update = parse_update(
            body,
            configuration.get_router_types(),
            node_type=configuration.node_type,
            reads_pods=configuration.reads_pods,
        )
        configuration.apply_update(update, since=configuration.revision)
    except UpdateRejectedError:
        after = (
            configuration.revision,
            configuration.refused,
            configuration.list_entrypoints(),
            len(proxy.http.tables),
            len(transport.applied),
            names.changed_at,
        )
        assert after == before
        return
    assert configuration.revision == update.revision
    for router in proxy.table.routers.values() if proxy.http.tables else ():
        assert router.service is None or router.service in proxy.table.services
        assert all(key in proxy.table.middlewares for key in router.middlewares)


KEYS = st.sampled_from(["a", "b", "c"])
SECTIONS = st.builds(
    Section,
    routers=st.dictionaries(
        KEYS,
        st.builds(
            HttpRouter,
            entrypoint=st.integers(5000, 5002),
            hosts=st.just(("h",)),
            service=st.none() | KEYS,
            middlewares=st.lists(KEYS, max_size=2).map(tuple),
        ),
    ),
    services=st.dictionaries(KEYS, st.sampled_from([service(), service(81), Service(scheme="h2c")])),
    middlewares=st.dictionaries(KEYS, st.sampled_from([stamp(1), stamp(13), Middleware(kind="gone")])),
)
DELTAS = st.tuples(
    SECTIONS,
    st.lists(st.tuples(st.sampled_from(["routers", "services", "middlewares"]), KEYS).map("http/{0[0]}/{0[1]}".format)),
    st.sampled_from([(), ("acl",)]),
)


@given(deltas=st.lists(DELTAS, max_size=5), other=SECTIONS, plugins=st.sampled_from([(), ("acl",)]))
def test_the_order_of_updates_does_not_affect_the_result(
    deltas: list[Any], other: Section, plugins: tuple[str, ...]
) -> None:
    """A row of deltas ends where one full configuration does; so does a full one after them."""
    by_delta = Proxy(plugins)
    by_delta.apply(full=True)
    merged: dict[str, dict[str, Any]] = {"routers": {}, "services": {}, "middlewares": {}}
    told: tuple[str, ...] = ()
    for section, removed, told in deltas:
        by_delta.apply(sections={"http": section}, removed=tuple(removed), plugins=told)
        for path in removed:
            merged[path.split("/")[1]].pop(path.split("/")[2], None)
        for noun, objects in merged.items():
            objects.update(getattr(section, noun))
    at_once = Proxy(plugins)
    at_once.apply(full=True, sections={"http": Section(**merged)}, plugins=told)
    assert by_delta.table == at_once.table
    assert by_delta.configuration.refused == at_once.configuration.refused
    assert by_delta.configuration.list_entrypoints() == at_once.configuration.list_entrypoints()
    assert by_delta.http.compiled[-1][1].keys() == at_once.http.compiled[-1][1].keys()
    by_delta.apply(full=True, sections={"http": other}, plugins=told)
    afresh = Proxy(plugins)
    afresh.apply(full=True, sections={"http": other}, plugins=told)
    assert by_delta.table == afresh.table
    assert by_delta.configuration.refused == afresh.configuration.refused
    assert by_delta.configuration.list_entrypoints() == afresh.configuration.list_entrypoints()
    for before, after in pairwise(by_delta.http.compiled):
        assert after[2] is None or list_differences(before, after) <= after[2]


def list_differences(before: Any, after: Any) -> set[str]:
    """Name the routers and services that two compiled tables do not share, by what they are or stand on."""
    names = {key for noun in ("routers", "services") for key in {**getattr(before[0], noun), **getattr(after[0], noun)}}
    return {key for key in names if describe(before, key) != describe(after, key)}


def describe(compiled: Any, key: str) -> Any:
    section, instances, _ = compiled
    router = section.routers.get(key)
    used = [instances[name] for name in router.middlewares] if router is not None else []
    return router, section.services.get(key), used
