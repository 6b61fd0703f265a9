"""Revisions: whatever a proxy has, what it pulls brings it to what the controller has."""

import json
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.controller.configuration import revisions
from maesh_core.controller.configuration.revisions import ObjectPath, RevisionStore
from maesh_core.model.configuration import (
    HttpRouter,
    Middleware,
    Section,
    Server,
    Service,
    ServiceConfiguration,
    StreamRouter,
)
from maesh_core.model.keys import ObjectKey, build_middleware_key, build_port_key
from maesh_core.model.messages import parse_update
from maesh_core.model.transport import ClientEntry

SERVICES = [ObjectKey(namespace, name) for namespace in ("a", "b") for name in ("x", "y")]
ROUTER_TYPES = {"http": HttpRouter, "tcp": StreamRouter}


def make_configuration(
    service: ObjectKey, protocol: str = "http", *ports: int, servers: int = 1, limit: Any = None
) -> ServiceConfiguration:
    middlewares = {}
    if limit is not None:
        middlewares[build_middleware_key(service, "limit")] = Middleware(kind="limit", settings={"value": limit})
    routers: dict[str, Any] = {}
    services = {}
    for port in ports or (80,):
        key = build_port_key(service, port)
        if protocol == "http":
            routers[key] = HttpRouter(entrypoint=5000, hosts=("h",), service=key, middlewares=tuple(middlewares))
        else:
            routers[key] = StreamRouter(entrypoint=10000, service=key)
        services[key] = Service(servers=tuple(Server(address="10.0.0.1", port=port + n) for n in range(servers)))
    section = Section(routers=routers, services=services, middlewares=middlewares)
    return ServiceConfiguration(sections={protocol: section})


class Client:
    """What a proxy does with the documents it pulls, in few lines."""

    def __init__(self) -> None:
        self.revision: str | None = None
        self.objects: dict[str, Any] = {}

    def pull(self, store: RevisionStore) -> None:
        body = store.render(self.revision)
        if body is None:
            return
        document = json.loads(body)
        if document["full"]:
            self.objects = {}
        for protocol in ("http", "tcp", "udp", "transport", "pods"):
            for noun, objects in document.get(protocol, {}).items():
                for key, value in objects.items():
                    self.objects[f"{protocol}/{noun}/{key}"] = value
        for path in document["removed"]:  # a proxy is told of nothing that it never had
            del self.objects[path]
        self.revision = document["revision"]


def read_full(store: RevisionStore) -> Client:
    client = Client()
    client.pull(store)
    return client


configurations = st.builds(
    lambda protocol, ports, servers, limit: (protocol, tuple(ports), servers, limit),
    st.sampled_from(["http", "tcp"]),
    st.sets(st.sampled_from([80, 81]), min_size=1),
    st.integers(0, 2),
    st.sampled_from([None, 1, True, 1.0, "1"]),
)
changes = st.dictionaries(st.sampled_from(SERVICES), st.none() | configurations)


def build_changes(change: Mapping[ObjectKey, Any]) -> dict[ObjectKey, ServiceConfiguration | None]:
    return {
        key: None
        if wanted is None
        else make_configuration(key, wanted[0], *wanted[1], servers=wanted[2], limit=wanted[3])
        for key, wanted in change.items()
    }


@given(st.lists(changes, max_size=8))
def test_from_every_older_revision_the_delta_leads_to_the_current_whole(steps: list[dict[ObjectKey, Any]]) -> None:
    store = RevisionStore("epoch", ("acl",))
    clients = [read_full(store)]
    for step in steps:
        store.apply(build_changes(step))
        clients.append(read_full(store))
    expected = read_full(store)
    for client in clients:
        client.pull(store)
        assert (client.revision, client.objects) == (expected.revision, expected.objects)


CLIENTS = st.none() | st.builds(ClientEntry, st.sampled_from("ab"), st.just("x@n"))
entry_changes = st.builds(
    dict.__or__,
    st.dictionaries(st.sampled_from(["transport/nodes/n1", "transport/nodes/n2", "transport/clients/::1"]), CLIENTS),
    st.dictionaries(
        st.sampled_from(["pods/addresses/10.0.0.1", "pods/addresses/::1"]), st.none() | st.sampled_from(["n/a", "n/b"])
    ),
)


@given(st.lists(st.tuples(changes, entry_changes), max_size=8))
def test_from_every_older_revision_the_delta_leads_to_the_current_optional_sections(
    steps: list[tuple[dict[ObjectKey, Any], Any]],
) -> None:
    store = RevisionStore("epoch", ())
    clients = [read_full(store)]
    model: dict[str, Any] = {}
    for services, entries in steps:
        before = store.revision
        has_changed = store.apply(
            build_changes(services), entries={ObjectPath(*path.split("/")): entry for path, entry in entries.items()}
        )
        assert has_changed == (store.revision != before)
        model |= {path: msgspec.to_builtins(entry) for path, entry in entries.items()}
        clients.append(read_full(store))
    expected = read_full(store)
    sent = {path: value for path, value in expected.objects.items() if path.startswith(("transport/", "pods/"))}
    assert sent == {path: value for path, value in model.items() if value is not None}
    for client in clients:
        client.pull(store)
        assert (client.revision, client.objects) == (expected.revision, expected.objects)


@given(st.lists(changes, max_size=8))
def test_every_object_carries_the_revision_that_last_changed_it(steps: list[dict[ObjectKey, Any]]) -> None:
    store = RevisionStore("epoch", ())
    before: dict[str, Any] = {}
    for step in steps:
        has_changed = store.apply(build_changes(step))
        number = int(store.revision.rpartition(".")[2])
        after = read_full(store).objects
        for path, value in after.items():
            if before.get(path) != value:
                assert value["revision"] == number
        assert has_changed == (before != after)
        before = after


@given(st.lists(changes, max_size=5), st.randoms())
def test_the_whole_does_not_depend_on_the_order_of_services(steps: list[dict[ObjectKey, Any]], random: Any) -> None:
    stores = [RevisionStore("epoch", ()) for _ in range(2)]
    for step in steps:
        built = list(build_changes(step).items())
        stores[0].apply(dict(built))
        random.shuffle(built)
        stores[1].apply(dict(built))
    assert stores[0].render(None) == stores[1].render(None)
    assert stores[0].render("epoch.0") == stores[1].render("epoch.0")


X, Y = ObjectKey("a", "x"), ObjectKey("a", "y")


def make_store(*steps: dict[ObjectKey, ServiceConfiguration | None]) -> RevisionStore:
    store = RevisionStore("epoch", ("acl", "retry"))
    for step in steps:
        store.apply(step)
    return store


def read(store: RevisionStore, since: str | None) -> Any:
    return json.loads(store.render(since) or b"null")


def test_an_empty_store_has_a_revision_and_a_document() -> None:
    store = make_store()
    empty = {"routers": {}, "services": {}, "middlewares": {}}
    assert store.revision == "epoch.0"
    assert read(store, None) == {
        "revision": "epoch.0",
        "full": True,
        "plugins": ["acl", "retry"],
        "http": empty,
        "tcp": empty,
        "udp": empty,
        "removed": [],
    }
    assert store.render("epoch.0") is None


def test_proxies_read_what_the_store_renders() -> None:
    built = make_configuration(X, limit=1)
    store = make_store({X: built})
    for since in (None, "epoch.0"):
        update = parse_update(store.render(since) or b"", ROUTER_TYPES)
        assert (update.revision, update.full, update.plugins) == ("epoch.1", since is None, ("acl", "retry"))
        (router,) = update.sections["http"].routers.values()
        assert router == msgspec.structs.replace(built.sections["http"].routers["a/x:80"], revision=1)


def test_a_change_of_servers_moves_the_service_alone() -> None:
    store = make_store({X: make_configuration(X), Y: make_configuration(Y)})
    assert store.apply({X: make_configuration(X, servers=2), Y: make_configuration(Y)})
    delta = read(store, "epoch.1")
    assert delta["http"]["routers"] == {}
    assert list(delta["http"]["services"]) == ["a/x:80"]
    assert (delta["full"], delta["revision"], delta["removed"]) == (False, "epoch.2", [])


def test_applying_what_is_there_makes_no_revision() -> None:
    store = make_store({X: make_configuration(X)})
    assert not store.apply({X: make_configuration(X), Y: None})
    assert not store.apply({Y: ServiceConfiguration(errors=("wrong",))})
    assert not store.apply({})
    assert store.revision == "epoch.1"


@pytest.mark.parametrize(("before", "after"), [(1, True), (1, 1.0), (0, False)])
def test_values_that_python_takes_for_equal_are_distinguished(before: Any, after: Any) -> None:
    store = make_store({X: make_configuration(X, limit=before)})
    assert store.apply({X: make_configuration(X, limit=after)})
    settings = read(store, "epoch.1")["http"]["middlewares"]["a/x/limit"]["settings"]
    assert json.dumps(settings) == json.dumps({"value": after})


def test_a_service_that_goes_away_is_removed_by_its_wire_paths() -> None:
    store = make_store({X: make_configuration(X, limit=1), Y: make_configuration(Y)}, {X: None})
    delta = read(store, "epoch.1")
    assert delta["removed"] == ["http/middlewares/a/x/limit", "http/routers/a/x:80", "http/services/a/x:80"]
    assert delta["http"] == {"routers": {}, "services": {}, "middlewares": {}}


def test_an_object_that_went_and_came_back_is_not_removed() -> None:
    store = make_store({X: make_configuration(X)}, {X: None}, {X: make_configuration(X)})
    delta = read(store, "epoch.1")
    assert delta["removed"] == []
    assert delta["http"]["routers"]["a/x:80"]["revision"] == 3


def test_an_object_that_came_and_went_is_not_reported() -> None:
    store = make_store({X: make_configuration(X)}, {Y: make_configuration(Y)}, {Y: None})
    assert read(store, "epoch.1")["removed"] == []
    assert read(store, "epoch.2")["removed"] == ["http/routers/a/y:80", "http/services/a/y:80"]


def test_a_service_that_changes_its_protocol_leaves_the_old_section() -> None:
    store = make_store({X: make_configuration(X)}, {X: make_configuration(X, "tcp")})
    delta = read(store, "epoch.1")
    assert delta["removed"] == ["http/routers/a/x:80", "http/services/a/x:80"]
    assert list(delta["tcp"]["routers"]) == ["a/x:80"]


@pytest.mark.parametrize(
    "since",
    [
        None,
        "",
        "0",
        ".0",
        "epoch",
        "epoch.",
        "other.1",
        "epoch.3",
        "epoch.-1",
        "epoch.01",
        "epoch. 1",
        "epoch.1 ",
        "epoch.+1",
        "epoch.1_0",
        "epoch.١",
        "epoch.²",
        "epoch.1e0",
        "epoch.x",
        "epoch.1.1",
        "EPOCH.1",
        "epoch." + "9" * 5000,
    ],
)
def test_a_revision_that_is_not_one_of_ours_gets_the_whole(since: str | None) -> None:
    store = make_store({X: make_configuration(X)}, {Y: make_configuration(Y)})
    assert store.render(since) == store.render(None)
    assert read(store, since)["full"] is True


def test_an_epoch_may_hold_dots() -> None:
    store = RevisionStore("2020.05.01", ())
    store.apply({X: make_configuration(X)})
    assert read(store, "2020.05.01.0")["full"] is False
    assert read(store, "2020.05.0")["full"] is True


def test_a_revision_that_fell_out_of_the_log_gets_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revisions, "LOG_LIMIT_REVISIONS", 2)
    store = make_store(*({X: make_configuration(X, servers=n)} for n in range(5)))
    assert [read(store, f"epoch.{n}")["full"] for n in range(5)] == [True, True, True, False, False]
    assert store.render("epoch.5") is None


def test_a_change_larger_than_the_log_can_be_sent_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revisions, "LOG_LIMIT_PATHS", 3)
    store = make_store({X: make_configuration(X)}, {X: make_configuration(X, servers=2), Y: make_configuration(Y)})
    assert read(store, "epoch.0")["full"] is True
    store.apply({X: None, Y: None})
    assert read(store, "epoch.2")["full"] is True
    assert store.render("epoch.3") is None


def test_two_services_never_write_one_key() -> None:
    store = make_store({X: make_configuration(X)})
    before = store.render(None)
    with pytest.raises(ValueError, match="http/routers/a/x:80 of service y@a is another service's"):
        store.apply({X: None, Y: make_configuration(X)})
    with pytest.raises(ValueError, match="is another service's"):
        store.apply({SERVICES[2]: make_configuration(Y), SERVICES[3]: make_configuration(Y)})
    assert store.render(None) == before
    assert store.revision == "epoch.1"


def test_an_object_that_cannot_be_encoded_changes_nothing() -> None:
    store = make_store({X: make_configuration(X)})
    with pytest.raises(TypeError):
        store.apply({X: None, Y: make_configuration(Y, limit=object())})
    assert store.revision == "epoch.1"
    assert store.render("epoch.1") is None


def test_one_service_is_rendered_without_the_others() -> None:
    store = RevisionStore("e", ["acl"])
    store.apply({key: make_configuration(key, "http", 80, 81) for key in SERVICES})
    document = json.loads(store.render_service(SERVICES[0]))
    assert list(document["http"]["routers"]) == ["a/x:80", "a/x:81"]
    assert (document["revision"], document["full"]) == ("e.1", True)
    assert json.loads(store.render_service(ObjectKey("a", "unknown")))["http"]["routers"] == {}
