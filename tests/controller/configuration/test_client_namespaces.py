"""The namespaces of clients by address: of namespaces whose clients have rules, or may call services by name alone."""

from hypothesis import given
from hypothesis import strategies as st

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
    assert not table.is_needed
    assert table.set_addresses({}) == {path("10.0.0.1"): None}


def test_the_namespace_of_a_service_that_is_called_by_name_alone_is_sent_if_proxies_use_it() -> None:
    for names_hosts in (False, True):
        table = ClientNamespaceTable(names_hosts=names_hosts)
        table.set_service(ONE, [], is_called=True)
        assert table.take_changed() == ({"shop"} if names_hosts else frozenset())
        assert table.set_addresses({"10.0.0.1": "shop", "10.0.0.2": "other"}) == {}
        assert table.take_changes() == ({path("10.0.0.1"): "shop"} if names_hosts else {})


def test_changes_for_names_alone_are_collected_and_those_for_rules_are_not() -> None:
    table = ClientNamespaceTable(names_hosts=True)
    table.set_service(ONE, ["test"], is_called=True)
    assert table.set_addresses({"10.0.0.1": "shop", "10.0.0.2": "test"}) == {path("10.0.0.2"): "test"}
    assert table.set_addresses({"10.0.0.1": "", "10.0.0.3": "shop"}) == {}
    assert table.take_changes() == {path("10.0.0.1"): None, path("10.0.0.3"): "shop"}
    assert table.take_changes() == {}


def test_an_address_above_the_limit_waits_unless_rules_need_it(caplog) -> None:
    table = ClientNamespaceTable(names_hosts=True, limit=1)
    table.set_service(ONE, ["test"], is_called=True)
    sent = table.set_addresses({"10.0.0.1": "shop", "10.0.0.2": "shop", "10.0.0.3": "test"})
    assert sent == {path("10.0.0.3"): "test"}
    assert table.take_changes() == {path("10.0.0.1"): "shop"}
    assert caplog.messages == [
        "pods have more than 1 addresses: proxies do not get the namespaces of the others, now 1",
    ]


def test_a_namespace_that_proxies_would_refuse_is_not_sent() -> None:
    table = ClientNamespaceTable(names_hosts=True)
    table.set_service(ObjectKey("Shop", "one"), ["Test"], is_called=True)
    assert table.set_addresses({"10.0.0.1": "Shop", "10.0.0.2": "Test"}) == {}
    assert table.take_changes() == {}


NAMESPACES = ["a", "b", "c"]
ADDRESSES = ["10.0.0.1", "10.0.0.2", "::1"]
SERVICES = [ObjectKey(namespace, "web") for namespace in NAMESPACES]
USES = st.tuples(st.sampled_from(SERVICES), st.sets(st.sampled_from(NAMESPACES)), st.booleans())
FOUND = st.dictionaries(st.sampled_from(ADDRESSES), st.sampled_from(["", *NAMESPACES]))


@given(st.lists(st.tuples(st.lists(USES, max_size=2), FOUND, st.booleans()), max_size=8))
def test_after_all_changes_were_sent_exactly_the_addresses_of_needed_namespaces_have_entries(steps) -> None:
    table, sent, current, uses = ClientNamespaceTable(names_hosts=True), {}, {}, {}
    for changes, found, is_taken in [*steps, ([], {}, True)]:
        for service, consumers, is_called in changes:
            table.set_service(service, consumers, is_called=is_called)
            uses[service] = consumers, is_called
        current.update(found)
        changed = table.take_changed()
        again = {address: namespace for address, namespace in current.items() if namespace in changed}
        entries = {**table.set_addresses({**found, **again})}
        if is_taken or entries:
            entries |= table.take_changes()
        for place, namespace in entries.items():
            if namespace is None:
                sent.pop(place.key, None)
            else:
                sent[place.key] = namespace
    needed = {each for consumers, _ in uses.values() for each in consumers}
    needed |= {service.namespace for service, (_, is_called) in uses.items() if is_called}
    assert sent == {address: namespace for address, namespace in current.items() if namespace in needed}
