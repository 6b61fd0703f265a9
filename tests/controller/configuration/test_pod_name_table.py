"""The entries of the section `pods`, and their changes."""

from hypothesis import given
from hypothesis import strategies as st

from maesh_core.controller.configuration.pod_name_table import build_pod_names
from maesh_core.controller.configuration.revisions import ObjectPath


def build_path(address):
    return ObjectPath("pods", "addresses", address)


def change(table, names):
    table.set_values(names)
    return table.take_changes()


def test_changes_are_collected_until_they_are_taken():
    table = build_pod_names()
    table.set_values({"10.0.0.1": "n/p", "10.0.0.2": "n/q"})
    table.set_values({"10.0.0.1": "", "10.0.0.2": "n/r"})
    assert table.take_changes() == {build_path("10.0.0.1"): None, build_path("10.0.0.2"): "n/r"}
    assert table.take_changes() == {}


def test_only_names_that_differ_are_changes():
    table = build_pod_names()
    first = {build_path("10.0.0.1"): "n/p", build_path("10.0.0.2"): "n/q"}
    assert change(table, {"10.0.0.1": "n/p", "10.0.0.2": "n/q"}) == first
    assert change(table, {"10.0.0.1": "n/p", "10.0.0.2": "n/r", "10.0.0.3": ""}) == {build_path("10.0.0.2"): "n/r"}
    assert change(table, {"10.0.0.1": ""}) == {build_path("10.0.0.1"): None}
    assert repr(table) == "<AddressEntries of pods: 1 sent, 0 waiting>"


def test_a_name_that_proxies_would_refuse_is_not_sent():
    table = build_pod_names()
    assert change(table, {"10.0.0.1": "n/Web_0"}) == {}
    assert change(table, {"10.0.0.1": "n/p"}) == {build_path("10.0.0.1"): "n/p"}
    assert change(table, {"10.0.0.1": "n/Web_0"}) == {build_path("10.0.0.1"): None}


def test_addresses_above_the_limit_wait_for_room_and_this_is_logged_once(caplog):
    table = build_pod_names(limit=2)
    assert len(change(table, {f"10.0.0.{number}": f"n/p{number}" for number in range(5)})) == 2
    assert (table.sent_count, table.waiting_count) == (2, 3)
    assert change(table, {"10.0.0.2": "n/new", "10.0.0.3": ""}) == {}
    assert change(table, {"10.0.0.0": ""}) == {build_path("10.0.0.0"): None, build_path("10.0.0.2"): "n/new"}
    assert (table.sent_count, table.waiting_count) == (2, 1)
    assert caplog.messages == [
        "pods have more than 2 addresses: proxies do not get the names of the others, now 3",
    ]


ADDRESSES = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "::1"]
STEPS = st.lists(st.dictionaries(st.sampled_from(ADDRESSES), st.sampled_from(["", "n/a", "n/b"])))


@given(STEPS, st.integers(0, 4))
def test_the_entries_are_the_current_names_of_as_many_addresses_as_the_limit_allows(steps, limit):
    table, names, entries = build_pod_names(limit), {}, {}
    for step in steps:
        names.update(step)
        for path, name in change(table, step).items():
            assert (path.protocol, path.noun) == ("pods", "addresses")
            if name is None:
                del entries[path.key]
            else:
                assert entries.get(path.key) != name
                entries[path.key] = name
        known = {address: name for address, name in names.items() if name}
        assert entries.items() <= known.items()
        assert len(entries) == table.sent_count == min(limit, len(known))
        assert table.waiting_count == len(known) - len(entries)
