import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from maesh_core.controller.ports.assignment import GRACE_S, PortClaim, PortOwner, PortTable, PortTables
from maesh_core.model.keys import ObjectKey
from maesh_core.plugin_system.hookspecs import PortRange

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


# Where the mapping is kept in a cluster


def build_cluster_table(clock, *, limit=3, leads=True):
    table = build_table(clock, limit=limit, is_cluster=True)
    table.is_allocating = leads
    return table


def test_a_port_is_usable_only_once_it_is_written(clock):
    table = build_cluster_table(clock)
    assert table.claim(owner(A)) == 10000
    assert (table.is_usable(owner(A)), table.is_pending(owner(A))) == (False, True)
    table.observe(A, {80: 10000})
    assert (table.is_usable(owner(A)), table.is_pending(owner(A))) == (True, False)


def test_who_does_not_lead_gives_out_nothing_and_waits(clock):
    table = build_cluster_table(clock, leads=False)
    assert table.claim(owner(A)) is None
    assert table.is_pending(owner(A))


def test_what_is_written_is_adopted_when_it_is_claimed(clock):
    for leads in (True, False):
        table = build_cluster_table(clock, leads=leads)
        table.observe(A, {80: 10002})
        assert table.claim(owner(A)) == 10002
        assert table.is_usable(owner(A))


def test_a_follower_follows_and_the_leader_goes_on_with_what_is_confirmed(clock):
    for leads, expected in ((False, 10002), (True, 10000)):
        table = build_cluster_table(clock, leads=leads)
        table.observe(A, {80: 10000})
        table.claim(owner(A))
        table.observe(A, {80: 10002})
        assert table.assigned == {owner(A): expected}
        assert table.is_usable(owner(A))


def test_what_nobody_was_told_of_gives_way_to_what_is_written(clock):
    table = build_cluster_table(clock)
    table.claim(owner(A))
    assert table.observe(A, {80: 10001}).concerned == {A}
    assert table.claim(owner(A)) == 10001
    table.claim(owner(B))
    assert table.observe(C, {80: 10000}).concerned == {B}
    assert table.claim(owner(B)) == 10002
    assert table.claim(owner(C)) == 10000


def test_what_is_written_for_one_is_never_given_to_another(clock):
    table = build_cluster_table(clock, limit=1)
    table.observe(A, {80: 10000})
    assert table.claim(owner(B)) is None
    table.claim(owner(A))
    table.release(owner(A))
    clock.now = 2 * GRACE_S
    assert table.claim(owner(B)) is None
    assert table.observe(A, {}).has_freed
    assert table.claim(owner(B)) == 10000


def test_a_port_that_may_yet_be_written_is_not_given_to_another_before_it_has_rested(clock):
    table = build_cluster_table(clock, limit=1)
    table.claim(owner(A))
    table.release(owner(A))
    assert table.claim(owner(B)) is None
    clock.now = GRACE_S
    assert table.end_rests()
    assert table.claim(owner(B)) == 10000


def test_a_service_that_comes_back_has_the_port_that_may_yet_be_written(clock):
    table = build_cluster_table(clock)
    table.claim(owner(A))
    table.release(owner(A))
    assert table.claim(owner(A)) == 10000


def test_a_mapping_stays_though_its_shadow_service_is_deleted(clock):
    for leads in (True, False):
        table = build_cluster_table(clock, leads=leads)
        table.observe(A, {80: 10000})
        table.claim(owner(A))
        table.observe(A, {})
        assert table.is_usable(owner(A))
        assert table.claim(owner(B)) == (10001 if leads else None)


def test_of_two_shadow_services_that_name_one_port_the_first_is_believed_until_it_goes(clock):
    table = build_cluster_table(clock, leads=False)
    table.observe(A, {80: 10000})
    table.observe(B, {80: 10000})
    assert [table.claim(owner(each)) for each in (A, B)] == [10000, None]
    assert table.observe(A, {}).concerned == {A}
    assert table.claim(owner(B)) == 10000
    assert not table.is_usable(owner(A))


def test_two_that_change_their_ports_at_one_time_are_followed_whoever_is_told_first(clock):
    for order in ((A, B), (B, A)):
        table = build_cluster_table(clock, leads=False)
        table.observe(A, {80: 10000})
        table.observe(B, {80: 10001})
        table.claim(owner(A))
        table.claim(owner(B))
        for each in order:
            table.observe(each, {A: {80: 10001}, B: {80: 10002}}[each])
        assert table.assigned == {owner(A): 10001, owner(B): 10002}
        assert table.is_usable(owner(A))
        assert table.is_usable(owner(B))


def test_a_port_of_a_follower_that_came_and_went_is_not_lost(clock):
    table = build_cluster_table(clock, limit=1, leads=False)
    table.observe(A, {80: 10000})
    table.claim(owner(A))
    table.release(owner(A))
    table.observe(A, {})
    assert table.claim(owner(A)) is None
    table.is_allocating = True
    clock.now = GRACE_S
    assert table.claim(owner(B)) == 10000


def test_what_lies_outside_the_range_is_not_looked_at(clock):
    table = build_cluster_table(clock)
    assert table.observe(A, {80: 9999, 81: 10003}) is None
    assert table.claim(owner(A)) == 10000


def build_cluster(limit=3, *, leads=True, clock=lambda: 0.0):
    tables = build_tables(limit, is_cluster=True, clock=clock)
    tables.set_allocating(is_allocating=leads)
    return tables


def test_only_what_is_written_is_found_and_what_is_to_come_is_pending():
    tables = build_cluster()
    tables.apply_claims({A: claim(80, 81)})
    assert tables.find_assigned(A) == {80: 10000, 81: 10001}
    assert (tables.find_entrypoints(A), tables.find_pending(A)) == ({}, {80, 81})
    assert tables.observe(A, {"tcp": {80: 10000}}) == {A}
    assert (tables.find_entrypoints(A), tables.find_pending(A)) == ({80: 10000}, {81})
    assert tables.observe(A, {"tcp": {80: 10000}}) == set()


def test_what_does_not_fit_is_pending_only_for_who_does_not_lead():
    for leads in (True, False):
        tables = build_cluster(limit=1, leads=leads)
        tables.observe(A, {"tcp": {80: 10000}})
        tables.apply_claims({A: claim(80), B: claim(80)})
        assert tables.find_pending(B) == (set() if leads else {80})


def test_who_begins_to_lead_gives_ports_to_who_waits_beside_what_is_written():
    tables = build_cluster(leads=False)
    tables.observe(B, {"tcp": {80: 10000}})
    tables.apply_claims({A: claim(80), B: claim(80)})
    assert tables.set_allocating(is_allocating=True) == {A}
    assert tables.find_assigned(A) == {80: 10001}


def test_who_ends_to_lead_takes_back_what_is_not_written_and_follows_what_is():
    tables = build_cluster()
    tables.apply_claims({A: claim(80), B: claim(80), C: claim(80)})
    tables.observe(A, {"tcp": {80: 10000}})
    tables.observe(B, {"tcp": {80: 10001}})
    tables.observe(A, {"tcp": {80: 10002}})  # C, whom nobody was told of, gives way, but A stays for now
    assert tables.find_entrypoints(A) == {80: 10000}
    assert tables.set_allocating(is_allocating=False) >= {A}
    assert tables.find_entrypoints(A) == {80: 10002}
    assert tables.find_assigned(C) == {}
    assert tables.find_pending(C) == {80}
    tables.observe(C, {"tcp": {80: 10000}})
    assert tables.find_entrypoints(C) == {80: 10000}


def test_who_waits_has_what_is_no_longer_written():
    tables = build_cluster(limit=1)
    tables.apply_claims({A: claim(80)})
    tables.observe(A, {"tcp": {80: 10000}})
    tables.apply_claims({B: claim(80)})
    assert tables.apply_claims({A: claim(80, type_="x")}) == set()
    assert tables.find_assigned(B) == {}
    assert tables.observe(A, {"x": {80: 1}}) == {A, B}
    assert tables.find_assigned(B) == {80: 10000}


def test_who_waits_has_what_has_rested():
    clock = Clock()
    tables = build_cluster(limit=1, clock=clock)
    tables.apply_claims({A: claim(80), B: claim(80)})
    assert tables.apply_claims({A: None}) == set()
    clock.now = GRACE_S
    assert tables.apply_claims({}) == {B}


def test_a_service_at_the_limit_can_move_its_port_in_a_cluster_but_keeps_what_is_written_for_its_others():
    tables = build_cluster(limit=2)
    tables.apply_claims({A: claim(80, 81)})
    tables.observe(A, {"tcp": {80: 10000, 81: 10001}})
    tables.apply_claims({A: claim(82, 81)})
    assert tables.find_assigned(A) == {81: 10001, 82: 10000}
    again = build_cluster(limit=2)
    again.observe(A, {"tcp": {80: 10000, 81: 10001}})
    again.apply_claims({A: claim(82, 81)})
    assert again.find_assigned(A) == {81: 10001, 82: 10000}


def test_what_is_written_of_a_service_is_found_as_a_claim():
    tables = build_cluster(leads=False)
    tables.observe(A, {"x": {80: 1, 81: 2}})
    assert tables.find_written(A) == claim(80, 81, type_="x")
    assert tables.find_written(B) is None


LIMIT = 4
SERVICES = st.sampled_from([A, B, C])
NUMBERS = st.integers(1, 3)


class ClusterLaws(RuleBasedStateMachine):
    """A table of a cluster, whose shadow services are written by it, by another leader, and by people."""

    def __init__(self):
        super().__init__()
        self.clock = Clock()
        self.table = build_cluster_table(self.clock, limit=LIMIT)
        self.written = {each: {} for each in (A, B, C)}
        self.confirmed = {}

    def keep(self):
        """Remember what is confirmed; what was, and is still assigned, must not have changed while it leads."""
        now = {each: port for each, port in self.table.assigned.items() if self.table.is_usable(each)}
        if self.table.is_allocating:
            for each, port in self.confirmed.items():
                assert self.table.assigned.get(each) == port
        self.confirmed = now

    @rule(service=SERVICES, number=NUMBERS)
    def claim_one(self, service, number):
        who = PortOwner(service, number)
        had = self.table.assigned.get(who)
        got = self.table.claim(who)
        if had is not None:
            assert got == had
        elif got is not None:
            others = {port for each, ports in self.written.items() if each != service for port in ports.values()}
            ours = set(self.written[service].values())
            assert got not in others or got in ours
            assert self.table.is_allocating or got == self.written[service].get(number)
        self.keep()

    @rule(service=SERVICES, number=NUMBERS)
    def release_one(self, service, number):
        self.confirmed.pop(PortOwner(service, number), None)
        self.table.release(PortOwner(service, number))
        self.keep()

    @rule(service=SERVICES)
    def write_as_the_leader_does(self, service):
        self.tell(service, {each.port: port for each, port in self.table.assigned.items() if each.service == service})

    @rule(service=SERVICES, ports=st.dictionaries(NUMBERS, st.integers(10000, 10000 + LIMIT), max_size=3))
    def write_anything(self, service, ports):
        self.tell(service, ports)

    def tell(self, service, ports):
        self.written[service] = ports
        self.table.observe(service, ports)
        self.keep()

    @rule(passed=st.sampled_from([1, 30, 70]))
    def pass_time(self, passed):
        self.clock.now += passed

    @rule()
    def lose_or_win_the_lead(self):
        if self.table.is_allocating:
            self.table.follow_written()
            self.confirmed = {}
        else:
            self.table.is_allocating = True
        self.keep()

    @invariant()
    def no_port_has_two_owners(self):
        ports = list(self.table.assigned.values())
        assert len(set(ports)) == len(ports)
        assert set(ports) <= set(range(10000, 10000 + LIMIT))

    @invariant()
    def a_follower_has_nothing_that_is_not_written_or_was(self):
        if not self.table.is_allocating:
            assert all(self.table.is_usable(each) for each in self.table.assigned)

    def teardown(self):
        """No port is lost: once nothing is assigned or written and all have rested, every one can be had."""
        for each in list(self.table.assigned):
            self.table.release(each)
        for each in (A, B, C):
            self.table.observe(each, {})
        self.clock.now += GRACE_S
        self.table.is_allocating = True
        stranger = ObjectKey("other", "x")
        assert {self.table.claim(owner(stranger, number)) for number in range(LIMIT)} == set(
            range(10000, 10000 + LIMIT)
        )


TestClusterLaws = ClusterLaws.TestCase
TestClusterLaws.settings = settings(max_examples=150, stateful_step_count=30)
