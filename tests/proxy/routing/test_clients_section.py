"""The namespaces of clients: merged like the rest of the configuration, and known before the tables that need them."""

from typing import Any

import pytest

from maesh_core.errors import UpdateRejectedError
from maesh_core.model.messages import Update, parse_update, render_update
from maesh_core.proxy.node.encoded_configuration import EncodedConfiguration
from maesh_core.proxy.routing.clients_section import CurrentClients

from .recording_proxy import Proxy


def update(*, full: bool = False, removed: tuple[str, ...] = (), **fields: Any) -> Update:
    return Update(revision="e.1", full=full, removed=removed, **fields)


def test_a_change_adds_replaces_and_removes_and_a_full_configuration_replaces_all() -> None:
    clients = CurrentClients()
    assert clients.apply(update(full=True, clients={"10.0.0.1": "a", "10.0.0.2": "b"}))
    assert clients.apply(update(clients={"10.0.0.2": "c"}, removed=("clients/sources/10.0.0.1", "http/routers/x")))
    assert clients.namespaces == {"10.0.0.2": "c"}
    assert not clients.apply(update(removed=("http/routers/x",)))
    assert not clients.apply(update(clients={"10.0.0.2": "c"}))
    assert clients.apply(update(full=True))
    assert clients.namespaces == {}


def test_handlers_that_route_by_namespace_get_them_before_their_tables() -> None:
    proxy = Proxy()
    seen: list[tuple[dict[str, str], int]] = []
    http: Any = proxy.http
    http.apply_namespaces = lambda namespaces: seen.append((dict(namespaces), len(proxy.http.tables)))
    proxy.apply(full=True, clients={"10.0.0.1": "a"})
    proxy.apply(clients={"fd00::1": "b"})
    proxy.apply(removed=("http/routers/x",))
    assert [namespaces for namespaces, _ in seen] == [{"10.0.0.1": "a"}, {"10.0.0.1": "a", "fd00::1": "b"}]
    assert seen[0][1] == 0


@pytest.mark.parametrize("clients", [{"a": "b"}, {"10.0.0.1": ""}, {"10.0.0.1": "A b"}, {"10.0.0.1": "a/b"}])
def test_an_invalid_entry_refuses_the_update(clients: dict[str, str]) -> None:
    with pytest.raises(UpdateRejectedError):
        Proxy().apply(full=True, clients=clients)


def test_the_section_is_in_the_document_and_in_that_of_the_node() -> None:
    sent = update(full=True, clients={"10.0.0.1": "a", "10.0.0.2": "b"})
    body = render_update(sent)
    assert parse_update(body, {}).clients == sent.clients
    assert parse_update(render_update(update(full=True)), {}).clients is None
    merged = EncodedConfiguration().merge(body, None)
    merged = merged.merge(render_update(update(removed=("clients/sources/10.0.0.1",))), "e.1")
    assert parse_update(merged.render(), {}).clients == {"10.0.0.2": "b"}
