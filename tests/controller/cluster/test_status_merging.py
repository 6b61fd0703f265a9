import copy

from hypothesis import given
from hypothesis import strategies as st

from maesh_core.controller.cluster.status_merging import merge_entries
from maesh_core.plugin_system.hookspecs import CONTROLLER_NAME

TYPES = ("Accepted", "ResolvedRefs")
OTHER = {"controllerName": "example.org/other", "parentRef": {"name": "a"}, "conditions": [{"type": "Accepted"}]}


def entry(name="a", status="True", since=None, **conditions):
    condition = {"type": "Accepted", "status": status, **conditions}
    return {
        "parentRef": {"name": name},
        "controllerName": CONTROLLER_NAME,
        "conditions": [condition | ({"lastTransitionTime": since} if since else {})],
    }


def merge(current, *wanted, now="now"):
    return merge_entries(current, wanted, condition_types=TYPES, now=now)


def test_a_new_entry_follows_those_of_others_which_stay_as_they_are():
    assert merge([OTHER], entry()) == [OTHER, entry(since="now")]
    assert merge(None, entry()) == [entry(since="now")]
    assert merge("not a list", entry()) == [entry(since="now")]


def test_nothing_is_written_when_only_the_time_would_differ():
    assert merge([entry(since="then"), OTHER], entry()) is None
    assert merge([OTHER]) is None
    assert merge(None) is None


def test_the_time_changes_only_with_the_status():
    assert merge([entry(since="then")], entry(message="x")) == [entry(since="then", message="x")]
    assert merge([entry(since="then")], entry(status="False")) == [entry(status="False", since="now")]
    assert merge([entry("b", since="then")], entry("a")) == [entry("a", since="now")]


def test_entries_of_the_mesh_that_are_not_wanted_any_more_are_removed():
    assert merge([entry("a", since="t"), OTHER, entry("b", since="t")], entry("b")) == [entry("b", since="t"), OTHER]
    assert merge([entry(since="t")]) == []


def test_an_entry_that_was_doubled_or_damaged_is_repaired():
    assert merge([entry(since="t"), entry(since="t")], entry()) == [entry(since="t")]
    assert merge([{**entry(since="t"), "conditions": None}], entry()) == [entry(since="now")]
    assert merge([{**entry(since="t"), "conditions": [1, {"type": 2}]}], entry()) == [entry(since="now")]


def test_conditions_of_other_types_are_kept_and_those_of_the_mesh_removed_when_left_out():
    there = entry(since="t")
    there["conditions"] += [{"type": "Foreign", "status": "True"}, {"type": "ResolvedRefs", "status": "True"}]
    assert merge([there], entry()) == [
        {**there, "conditions": [entry(since="t")["conditions"][0], {"type": "Foreign", "status": "True"}]}
    ]


names = st.sampled_from("abc")
statuses = st.sampled_from(["True", "False"])
ours = st.lists(st.builds(entry, names, statuses), max_size=3, unique_by=lambda each: each["parentRef"]["name"])
written = st.builds(entry, names, statuses, since=st.sampled_from("st"))
lists = st.lists(st.one_of(written, st.just(OTHER), st.integers(), st.none()), max_size=5)


@given(lists, ours)
def test_merging_keeps_others_writes_what_is_wanted_and_is_done_after_one_write(current, wanted):
    before = copy.deepcopy(current)
    merged = merge(current, *wanted)
    assert current == before
    after = current if merged is None else merged

    def is_ours(each):
        return isinstance(each, dict) and each["controllerName"] == CONTROLLER_NAME

    assert [each for each in after if not is_ours(each)] == [each for each in current if not is_ours(each)]
    found = [(each["parentRef"], each["conditions"][0]["status"]) for each in after if is_ours(each)]
    assert found == [(each["parentRef"], each["conditions"][0]["status"]) for each in wanted]
    assert merge(after, *wanted, now="later") is None
