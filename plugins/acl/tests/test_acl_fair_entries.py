"""At the limit, the client with the most entries loses the one that it used least recently."""

from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st
from maesh_acl.denials.fair_entries import FairEntries


class Key(NamedTuple):
    client: str
    name: int = 0


def note(entries: FairEntries[Key, int], key: Key) -> Key | None:
    """Use an entry, or add it; return the key of the one that was evicted."""
    return entries.add(key, key.name) if entries.find(key) is None else None


def test_one_client_evicts_only_its_own_entries():
    entries: FairEntries[Key, int] = FairEntries(10)
    others = [Key(client, number) for client in "abc" for number in range(2)]
    for key in others:
        assert note(entries, key) is None
    evicted = [note(entries, Key("flood", number)) for number in range(1000)]
    assert evicted == [None] * 4 + [Key("flood", number) for number in range(996)]
    assert {key for key, _ in entries} == {*others, *(Key("flood", number) for number in range(996, 1000))}
    assert (len(entries), entries.forgotten, repr(entries)) == (10, 996, "<FairEntries 10 of 10>")


def test_of_clients_with_as_many_entries_the_one_loses_that_was_silent_for_longest():
    entries: FairEntries[Key, int] = FairEntries(3)
    for client in "abc":
        note(entries, Key(client))
    note(entries, Key("a"))
    assert note(entries, Key("d")) == Key("b")
    assert [key.client for key, _ in entries] == ["a", "c", "d"]


KEYS = st.builds(Key, st.sampled_from("abcdef"), st.integers(0, 9))


@given(limit=st.integers(1, 12), keys=st.lists(KEYS, max_size=80))
def test_a_client_loses_an_entry_only_if_no_other_has_more_and_then_its_oldest(limit, keys):
    entries: FairEntries[Key, int] = FairEntries(limit)
    model: dict[str, list[Key]] = {}
    for key in keys:
        sizes = {client: len(own) for client, own in model.items()}
        evicted = note(entries, key)
        if evicted is not None:
            assert sum(sizes.values()) == limit
            assert sizes[evicted.client] == max(sizes.values())
            assert model[evicted.client].pop(0) == evicted
        own = model.setdefault(key.client, [])
        if key in own:
            own.remove(key)
        own.append(key)
        assert [found for found, _ in entries if found.client == key.client] == own
        assert sorted(found for found, _ in entries) == sorted(key for own in model.values() for key in own)
        assert len(entries) == len(list(entries)) <= limit
