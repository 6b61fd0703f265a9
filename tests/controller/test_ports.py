import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.controller.ports import GRACE_S, PortClaim, PortOwner, PortTable, PortTables
from maesh_core.hookspecs import PortRange
from maesh_core.model.keys import ObjectKey

A, B, C = (ObjectKey("n", name) for name in "abc")


def owner(service, port=80):
    return PortOwner(service, port)


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def build_table(clock, limit=3, **assigned):
    return PortTable(PortRange(first=10000, limit=limit, is_exclusive=True), clock=clock, **assigned)


def build_tables(limit=3, **more):
    ranges = {
        name: PortRange(first=first, limit=limit, is_exclusive=True) for name, first in (("tcp", 10000), ("x", 1))
    }
    return PortTables(ranges, **more)


def claim(*ports, type_="tcp"):
    return PortClaim(type_, ports)


def test_the_lowest_free_port_is_given(clock):
    table = build_table(clock)
    assert [table.claim(owner(each)) for each in (A, B)] == [10000, 10001]


def test_an_owner_keeps_its_port(clock):
    table = build_table(clock)
    assert table.claim(owner(A)) == table.claim(owner(A)) == 10000


def test_two_ports_of_one_service_are_two_owners(clock):
    table = build_table(clock)
    assert table.claim(owner(A, 80)) != table.claim(owner(A, 81))


def test_a_freed_port_rests_while_others_are_free(clock):
    table = build_table(clock)
    table.claim(owner(A))
    table.release(owner(A))
    assert table.claim(owner(B)) == 10001


def test_an_owner_that_comes_back_gets_its_old_port(clock):
    table = build_table(clock)
    table.claim(owner(A))
    table.claim(owner(B))
    table.release(owner(A))
    clock.now = GRACE_S - 0.1
    assert table.claim(owner(C)) == 10002
    assert table.claim(owner(A)) == 10000


def test_a_port_that_has_rested_is_free_for_anybody(clock):
    table = build_table(clock)
    table.claim(owner(A))
    table.release(owner(A))
    clock.now = GRACE_S
    assert table.claim(owner(B)) == 10000
    assert table.claim(owner(A)) == 10001


def test_the_longest_resting_port_is_given_when_nothing_else_is_free(clock):
    table = build_table(clock)
    for each in (A, B, C):
        table.claim(owner(each))
    table.release(owner(B))
    clock.now = 1
    table.release(owner(A))
    assert table.claim(owner(A, 81)) == 10001


def test_no_port_is_left_when_all_are_assigned(clock):
    table = build_table(clock, limit=1)
    table.claim(owner(A))
    assert table.claim(owner(B)) is None


def test_a_range_ends_at_the_highest_port(clock):
    table = PortTable(PortRange(first=65535, limit=10, is_exclusive=True), clock=clock)
    assert [table.claim(owner(each)) for each in (A, B)] == [65535, None]


def test_releasing_what_is_not_assigned_does_nothing(clock):
    table = build_table(clock)
    assert not table.release(owner(A))
    assert table.claim(owner(A)) == 10000


def test_a_known_mapping_is_kept_as_far_as_it_lies_in_the_range(clock):
    table = build_table(clock, assigned={owner(A): 10001, owner(B): 10003, owner(C): 9999})
    assert table.claim(owner(A)) == 10001
    assert table.claim(owner(B)) == 10000
    assert table.claim(owner(C)) == 10002


STEPS = st.lists(
    st.tuples(st.booleans(), st.sampled_from([owner(s, p) for s in (A, B, C) for p in (1, 2)]), st.integers(0, 70)),
    max_size=30,
)


@given(STEPS)
def test_a_port_never_has_two_owners_and_none_is_lost(steps):
    clock = Clock()
    table = build_table(clock, limit=4)
    for is_claim, who, passed in steps:
        clock.now += passed
        had = table.assigned.get(who)
        if is_claim:
            got = table.claim(who)
            assert got is not None or len(table.assigned) == 4
            assert had is None or got == had
        else:
            table.release(who)
        assert len(set(table.assigned.values())) == len(table.assigned)
        assert set(table.assigned.values()) <= set(range(10000, 10004))
    for number in range(4 - len(table.assigned)):
        assert table.claim(owner(ObjectKey("other", str(number)))) is not None


def test_services_are_served_in_the_order_of_their_keys():
    tables = build_tables()
    tables.apply_claims({B: claim(80), A: claim(80)})
    assert tables.find_entrypoints(A) == {80: 10000}
    assert tables.find_entrypoints(B) == {80: 10001}


def test_a_service_at_the_limit_can_move_its_port():
    tables = build_tables(limit=1)
    tables.apply_claims({A: claim(80)})
    tables.apply_claims({A: claim(81)})
    assert tables.find_entrypoints(A) == {81: 10000}


def test_what_does_not_fit_waits_for_a_free_port():
    tables = build_tables(limit=2)
    assert tables.apply_claims({A: claim(80, 81), B: claim(80), C: claim(80)}) == set()
    assert tables.find_entrypoints(B) == {}
    assert tables.apply_claims({A: claim(81)}) == {B}
    assert tables.find_entrypoints(B) == {80: 10000}
    assert tables.apply_claims({A: None}) == {C}


def test_a_service_may_fit_in_part():
    tables = build_tables(limit=1)
    tables.apply_claims({A: claim(80, 81)})
    assert tables.find_entrypoints(A) == {80: 10000}


def test_a_service_that_is_gone_does_not_wait():
    tables = build_tables(limit=1)
    tables.apply_claims({A: claim(80), B: claim(80)})
    tables.apply_claims({B: None})
    assert tables.apply_claims({A: None}) == set()
    assert tables.list_assigned() == {}


def test_a_service_that_changes_its_type_leaves_its_port():
    tables = build_tables()
    tables.apply_claims({A: claim(80)})
    tables.apply_claims({A: claim(80, type_="x")})
    assert tables.list_assigned() == {"x": {owner(A): 1}}


def test_everything_told_means_that_strangers_lose_their_ports_before_anybody_waits():
    known = {"tcp": {owner(A): 10000, owner(B): 10001, owner(C, 90): 10002}, "gone": {owner(A): 5}}
    tables = build_tables(assigned=known)
    tables.apply_claims({B: claim(80), C: claim(80, 81)}, is_everything=True)
    assert tables.find_entrypoints(B) == {80: 10001}
    assert set(tables.find_entrypoints(C).values()) == {10000, 10002}


def test_the_version_rises_only_with_a_change_of_the_mapping():
    tables = build_tables(limit=1)
    tables.apply_claims({A: claim(80)})
    version = tables.version
    tables.apply_claims({A: claim(80), B: claim(80)})
    assert tables.version == version
    tables.apply_claims({A: None})
    assert tables.version > version


CLAIM = st.none() | st.builds(PortClaim, st.sampled_from(["tcp", "x"]), st.sampled_from([(1,), (2,), (1, 2)]))
CLAIM_STEPS = st.lists(st.dictionaries(st.sampled_from([A, B, C]), CLAIM, max_size=3), max_size=12)


@given(CLAIM_STEPS)
def test_nobody_waits_while_a_port_is_free_and_a_restart_changes_nothing(steps):
    tables = build_tables(limit=2)
    current = {}
    for step in steps:
        current.update(step)
        tables.apply_claims(step)
        for type_, count in (("tcp", 2), ("x", 2)):
            wanted = sum(len(each.ports) for each in current.values() if each and each.traffic_type == type_)
            assert len(tables.list_assigned().get(type_, {})) == min(wanted, count)
    again = build_tables(limit=2, assigned=tables.list_assigned())
    again.apply_claims(current, is_everything=True)
    for each in (A, B, C):
        assert again.find_entrypoints(each) == tables.find_entrypoints(each)
