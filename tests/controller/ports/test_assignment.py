from hypothesis import given
from hypothesis import strategies as st

from maesh_core.controller.ports.assignment import PortClaim, PortTables
from maesh_core.controller.ports.port_table import GRACE_S, PortOwner
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


def build_tables(limit=3, **more):
    ranges = {
        name: PortRange(first=first, limit=limit, is_exclusive=True) for name, first in (("tcp", 10000), ("x", 1))
    }
    return PortTables(ranges, **more)


def claim(*ports, type_="tcp"):
    return PortClaim(type_, ports)


def test_services_get_entrypoints_in_the_order_of_their_keys():
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


def test_with_all_claims_the_ports_that_none_of_them_names_are_released_first():
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
def test_no_service_waits_while_a_port_is_free_and_a_restart_changes_nothing(steps):
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


# --- with the mapping in a cluster ---


def build_cluster(limit=3, *, leads=True, clock=lambda: 0.0):
    tables = build_tables(limit, is_cluster=True, clock=clock)
    tables.set_allocating(is_allocating=leads)
    return tables


def test_only_written_entrypoints_are_found_and_the_others_are_pending():
    tables = build_cluster()
    tables.apply_claims({A: claim(80, 81)})
    assert tables.find_assigned(A) == {80: 10000, 81: 10001}
    assert (tables.find_entrypoints(A), tables.find_pending(A)) == ({}, {80, 81})
    assert tables.apply_written(A, {"tcp": {80: 10000}}) == {A}
    assert (tables.find_entrypoints(A), tables.find_pending(A)) == ({80: 10000}, {81})
    assert tables.apply_written(A, {"tcp": {80: 10000}}) == set()


def test_a_claim_that_does_not_fit_is_pending_only_without_the_lead():
    for leads in (True, False):
        tables = build_cluster(limit=1, leads=leads)
        tables.apply_written(A, {"tcp": {80: 10000}})
        tables.apply_claims({A: claim(80), B: claim(80)})
        assert tables.find_pending(B) == (set() if leads else {80})


def test_a_new_leader_assigns_ports_that_are_not_written_for_others():
    tables = build_cluster(leads=False)
    tables.apply_written(B, {"tcp": {80: 10000}})
    tables.apply_claims({A: claim(80), B: claim(80)})
    assert tables.set_allocating(is_allocating=True) == {A}
    assert tables.find_assigned(A) == {80: 10001}


def test_a_controller_that_stops_leading_drops_what_is_not_written_and_adopts_what_is():
    tables = build_cluster()
    tables.apply_claims({A: claim(80), B: claim(80), C: claim(80)})
    tables.apply_written(A, {"tcp": {80: 10000}})
    tables.apply_written(B, {"tcp": {80: 10001}})
    tables.apply_written(A, {"tcp": {80: 10002}})  # C's pending port is replaced, but A keeps its own for now
    assert tables.find_entrypoints(A) == {80: 10000}
    assert tables.set_allocating(is_allocating=False) >= {A}
    assert tables.find_entrypoints(A) == {80: 10002}
    assert tables.find_assigned(C) == {}
    assert tables.find_pending(C) == {80}
    tables.apply_written(C, {"tcp": {80: 10000}})
    assert tables.find_entrypoints(C) == {80: 10000}


def test_a_waiting_service_gets_a_port_that_is_no_longer_written():
    tables = build_cluster(limit=1)
    tables.apply_claims({A: claim(80)})
    tables.apply_written(A, {"tcp": {80: 10000}})
    tables.apply_claims({B: claim(80)})
    assert tables.apply_claims({A: claim(80, type_="x")}) == set()
    assert tables.find_assigned(B) == {}
    assert tables.apply_written(A, {"x": {80: 1}}) == {A, B}
    assert tables.find_assigned(B) == {80: 10000}


def test_a_waiting_service_gets_a_port_whose_reservation_has_expired():
    clock = Clock()
    tables = build_cluster(limit=1, clock=clock)
    tables.apply_claims({A: claim(80), B: claim(80)})
    assert tables.apply_claims({A: None}) == set()
    clock.now = GRACE_S
    assert tables.apply_claims({}) == {B}


def test_a_service_at_the_limit_can_move_its_port_in_a_cluster_but_keeps_what_is_written_for_its_others():
    tables = build_cluster(limit=2)
    tables.apply_claims({A: claim(80, 81)})
    tables.apply_written(A, {"tcp": {80: 10000, 81: 10001}})
    tables.apply_claims({A: claim(82, 81)})
    assert tables.find_assigned(A) == {81: 10001, 82: 10000}
    again = build_cluster(limit=2)
    again.apply_written(A, {"tcp": {80: 10000, 81: 10001}})
    again.apply_claims({A: claim(82, 81)})
    assert again.find_assigned(A) == {81: 10001, 82: 10000}


def test_what_is_written_of_a_service_is_found_as_a_claim():
    tables = build_cluster(leads=False)
    tables.apply_written(A, {"x": {80: 1, 81: 2}})
    assert tables.find_written(A) == claim(80, 81, type_="x")
    assert tables.find_written(B) is None
