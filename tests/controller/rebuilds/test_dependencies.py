from hypothesis import given
from hypothesis import strategies as st

from maesh_core.controller.rebuilds.dependencies import DependencyIndex
from maesh_core.model.keys import ObjectKey

SERVICES = [ObjectKey("n", name) for name in "abc"]
CHANGES = st.lists(st.tuples(st.sampled_from(SERVICES), st.none() | st.frozensets(st.integers(0, 4))), max_size=20)


@given(CHANGES)
def test_readers_are_always_those_of_the_last_builds_and_nothing_is_left_behind(changes):
    index = DependencyIndex()
    model = {}
    for service, reads in changes:
        if reads is None:
            index.forget(service)
            model.pop(service, None)
        else:
            index.set_reads(service, reads)
            model[service] = reads
    for read in range(5):
        assert index.find_readers([read]) == {service for service, reads in model.items() if read in reads}
    assert sorted(index.list_services()) == sorted(model)
    assert index.count_reads() == len(frozenset().union(*model.values()))


def test_readers_of_several_reads_are_joined():
    index = DependencyIndex()
    index.set_reads(SERVICES[0], ["x"])
    index.set_reads(SERVICES[1], ["y"])
    assert index.find_readers(["x", "y", "z"]) == set(SERVICES[:2])


def test_what_a_reader_set_gives_is_the_callers_own():
    index = DependencyIndex()
    index.set_reads(SERVICES[0], ["x"])
    index.find_readers(["x"]).clear()
    assert index.find_readers(["x"]) == {SERVICES[0]}
