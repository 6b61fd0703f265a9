"""The namespaces of clients by address: only those of namespaces whose clients have rules of their own."""

from maesh_core.controller.configuration.client_namespaces import ClientNamespaceTable
from maesh_core.controller.configuration.revisions import ObjectPath
from maesh_core.model.keys import ObjectKey

ONE, TWO = ObjectKey("shop", "one"), ObjectKey("shop", "two")


def path(address: str) -> ObjectPath:
    return ObjectPath("clients", "sources", address)


def test_only_addresses_of_namespaces_with_rules_are_sent_and_only_once() -> None:
    table = ClientNamespaceTable()
    table.set_service(ONE, ["test"])
    assert table.set_addresses({"10.0.0.1": "test", "10.0.0.2": "shop", "10.0.0.3": ""}) == {path("10.0.0.1"): "test"}
    assert table.set_addresses({"10.0.0.1": "test"}) == {}


def test_an_address_that_another_pod_gets_changes_or_is_removed() -> None:
    table = ClientNamespaceTable()
    table.set_service(ONE, ["test", "other"])
    table.set_addresses({"10.0.0.1": "test", "10.0.0.2": "test"})
    assert table.set_addresses({"10.0.0.1": "other", "10.0.0.2": ""}) == {
        path("10.0.0.1"): "other",
        path("10.0.0.2"): None,
    }


def test_a_namespace_is_removed_with_the_last_service_that_has_rules_for_it() -> None:
    table = ClientNamespaceTable()
    for service in (ONE, TWO):
        table.set_service(service, ["test"])
    table.set_addresses({"10.0.0.1": "test"})
    table.set_service(ONE, [])
    assert table.set_addresses({}) == {}
    table.set_service(TWO, [])
    assert table.namespaces == frozenset()
    assert table.set_addresses({}) == {path("10.0.0.1"): None}
