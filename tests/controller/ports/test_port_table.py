import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from maesh_core.controller.ports.port_table import GRACE_S, TRANSITIONS, PortOwner, PortState, PortTable
from maesh_core.model.keys import ObjectKey
from maesh_core.plugin_system.protocols import PortRange

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


def test_the_lowest_free_port_is_assigned(clock):
    table = build_table(clock)
    assert [table.claim(owner(each)) for each in (A, B)] == [10000, 10001]


def test_an_owner_keeps_its_port(clock):
    table = build_table(clock)
    assert table.claim(owner(A)) == table.claim(owner(A)) == 10000


def test_two_ports_of_one_service_are_two_owners(clock):
    table = build_table(clock)
    assert table.claim(owner(A, 80)) != table.claim(owner(A, 81))


def test_a_released_port_is_reserved_while_others_are_free(clock):
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


def test_any_owner_can_claim_a_port_whose_reservation_has_expired(clock):
    table = build_table(clock)
    table.claim(owner(A))
    table.release(owner(A))
    clock.now = GRACE_S
    assert table.claim(owner(B)) == 10000
    assert table.claim(owner(A)) == 10001


def test_the_port_that_was_reserved_first_is_assigned_when_none_is_free(clock):
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


def test_a_known_mapping_is_kept_for_the_ports_in_the_range(clock):
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


# --- with the mapping in a cluster ---


def build_cluster_table(clock, *, limit=3, leads=True):
    table = build_table(clock, limit=limit, is_cluster=True)
    table.is_allocating = leads
    return table


def test_a_port_is_usable_only_once_it_is_written(clock):
    table = build_cluster_table(clock)
    assert table.claim(owner(A)) == 10000
    assert (table.is_usable(owner(A)), table.is_pending(owner(A))) == (False, True)
    table.apply_written(A, {80: 10000})
    assert (table.is_usable(owner(A)), table.is_pending(owner(A))) == (True, False)


def test_a_controller_that_does_not_lead_assigns_nothing_and_waits(clock):
    table = build_cluster_table(clock, leads=False)
    assert table.claim(owner(A)) is None
    assert table.is_pending(owner(A))


def test_what_is_written_is_adopted_when_it_is_claimed(clock):
    for leads in (True, False):
        table = build_cluster_table(clock, leads=leads)
        table.apply_written(A, {80: 10002})
        assert table.claim(owner(A)) == 10002
        assert table.is_usable(owner(A))


def test_a_follower_adopts_what_is_written_and_the_leader_keeps_what_is_confirmed(clock):
    for leads, expected in ((False, 10002), (True, 10000)):
        table = build_cluster_table(clock, leads=leads)
        table.apply_written(A, {80: 10000})
        table.claim(owner(A))
        table.apply_written(A, {80: 10002})
        assert table.assigned == {owner(A): expected}
        assert table.is_usable(owner(A))


def test_what_is_written_replaces_a_pending_assignment(clock):
    table = build_cluster_table(clock)
    table.claim(owner(A))
    assert table.apply_written(A, {80: 10001}).concerned == {A}
    assert table.claim(owner(A)) == 10001
    table.claim(owner(B))
    assert table.apply_written(C, {80: 10000}).concerned == {B}
    assert table.claim(owner(B)) == 10002
    assert table.claim(owner(C)) == 10000


def test_a_port_that_is_written_for_one_service_is_never_assigned_to_another(clock):
    table = build_cluster_table(clock, limit=1)
    table.apply_written(A, {80: 10000})
    assert table.claim(owner(B)) is None
    table.claim(owner(A))
    table.release(owner(A))
    clock.now = 2 * GRACE_S
    assert table.claim(owner(B)) is None
    assert table.apply_written(A, {}).has_freed
    assert table.claim(owner(B)) == 10000


def test_a_released_port_that_may_still_be_written_stays_reserved_at_the_limit(clock):
    table = build_cluster_table(clock, limit=1)
    table.claim(owner(A))
    table.release(owner(A))
    assert table.claim(owner(B)) is None
    clock.now = GRACE_S
    assert table.expire_reservations()
    assert table.claim(owner(B)) == 10000


def test_a_service_that_comes_back_gets_its_pending_port(clock):
    table = build_cluster_table(clock)
    table.claim(owner(A))
    table.release(owner(A))
    assert table.claim(owner(A)) == 10000


def test_a_mapping_stays_when_its_shadow_service_is_deleted(clock):
    for leads in (True, False):
        table = build_cluster_table(clock, leads=leads)
        table.apply_written(A, {80: 10000})
        table.claim(owner(A))
        table.apply_written(A, {})
        assert table.is_usable(owner(A))
        assert table.claim(owner(B)) == (10001 if leads else None)


def test_the_first_of_two_shadow_services_that_name_one_port_counts_until_it_is_deleted(clock):
    table = build_cluster_table(clock, leads=False)
    table.apply_written(A, {80: 10000})
    table.apply_written(B, {80: 10000})
    assert [table.claim(owner(each)) for each in (A, B)] == [10000, None]
    assert table.apply_written(A, {}).concerned == {A}
    assert table.claim(owner(B)) == 10000
    assert not table.is_usable(owner(A))


def test_two_services_that_change_their_ports_together_are_adopted_in_any_order(clock):
    for order in ((A, B), (B, A)):
        table = build_cluster_table(clock, leads=False)
        table.apply_written(A, {80: 10000})
        table.apply_written(B, {80: 10001})
        table.claim(owner(A))
        table.claim(owner(B))
        for each in order:
            table.apply_written(each, {A: {80: 10001}, B: {80: 10002}}[each])
        assert table.assigned == {owner(A): 10001, owner(B): 10002}
        assert table.is_usable(owner(A))
        assert table.is_usable(owner(B))


def test_a_port_of_a_follower_that_came_and_went_is_not_lost(clock):
    table = build_cluster_table(clock, limit=1, leads=False)
    table.apply_written(A, {80: 10000})
    table.claim(owner(A))
    table.release(owner(A))
    table.apply_written(A, {})
    assert table.claim(owner(A)) is None
    table.is_allocating = True
    clock.now = GRACE_S
    assert table.claim(owner(B)) == 10000


def test_written_ports_outside_the_range_are_ignored(clock):
    table = build_cluster_table(clock)
    assert table.apply_written(A, {80: 9999, 81: 10003}) is None
    assert table.claim(owner(A)) == 10000


def list_states(table):
    return [table.find_state(port) for port in range(10000, 10004)]


def walk(seed, *, is_cluster, steps=4000):
    """Claim, release, write and lead at random; yield each change of a port's state."""
    chance, clock = random.Random(seed), Clock()
    table = build_table(clock, limit=4, is_cluster=is_cluster)
    owners = [PortOwner(service, number) for service in (A, B, C) for number in (1, 2)]
    actions = [
        lambda: table.claim(chance.choice(owners)),
        lambda: table.release(chance.choice(owners)),
        lambda: setattr(clock, "now", clock.now + chance.choice((1, 70))),
        table.expire_reservations,
    ]
    if is_cluster:
        actions += [
            lambda: table.apply_written(chance.choice((A, B, C)), {}),
            lambda: table.apply_written(chance.choice((A, B, C)), {chance.randint(1, 2): chance.randint(10000, 10003)}),
            table.stop_allocating,
            lambda: setattr(table, "is_allocating", True),
        ]
    for _ in range(steps):
        before = list_states(table)
        chance.choice(actions)()
        yield from ((one, other) for one, other in zip(before, list_states(table), strict=True) if one is not other)


def test_the_transitions_are_those_that_happen():
    listed = {(state, after) for state, changes in TRANSITIONS.items() for after in changes}
    assert set(walk(1, is_cluster=True)) | set(walk(2, is_cluster=False)) == listed


def test_without_a_cluster_no_port_is_pending_or_written():
    states = {state for change in walk(3, is_cluster=False) for state in change}
    assert states == {PortState.FREE, PortState.CONFIRMED, PortState.RESERVED}


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
        self.states = list_states(self.table)

    def check_confirmed(self):
        """Record what is confirmed; while it leads, a confirmed port must not have changed."""
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
        self.check_confirmed()

    @rule(service=SERVICES, number=NUMBERS)
    def release_one(self, service, number):
        self.confirmed.pop(PortOwner(service, number), None)
        self.table.release(PortOwner(service, number))
        self.check_confirmed()

    @rule(service=SERVICES)
    def write_as_the_leader_does(self, service):
        self.write(service, {each.port: port for each, port in self.table.assigned.items() if each.service == service})

    @rule(service=SERVICES, ports=st.dictionaries(NUMBERS, st.integers(10000, 10000 + LIMIT), max_size=3))
    def write_anything(self, service, ports):
        self.write(service, ports)

    def write(self, service, ports):
        self.written[service] = ports
        self.table.apply_written(service, ports)
        self.check_confirmed()

    @rule(passed=st.sampled_from([1, 30, 70]))
    def pass_time(self, passed):
        self.clock.now += passed

    @rule()
    def lose_or_win_the_lead(self):
        if self.table.is_allocating:
            self.table.stop_allocating()
            self.confirmed = {}
        else:
            self.table.is_allocating = True
        self.check_confirmed()

    @invariant()
    def states_change_as_the_transitions_say(self):
        before, self.states = self.states, list_states(self.table)
        for one, other in zip(before, self.states, strict=True):
            assert other is one or other in TRANSITIONS[one]

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
        """No port is lost: once nothing is assigned, written or reserved, every one can be claimed."""
        for each in list(self.table.assigned):
            self.table.release(each)
        for each in (A, B, C):
            self.table.apply_written(each, {})
        self.clock.now += GRACE_S
        self.table.is_allocating = True
        other_service = ObjectKey("other", "x")
        assert {self.table.claim(owner(other_service, number)) for number in range(LIMIT)} == set(
            range(10000, 10000 + LIMIT)
        )


TestClusterLaws = ClusterLaws.TestCase
TestClusterLaws.settings = settings(max_examples=150, stateful_step_count=30)
