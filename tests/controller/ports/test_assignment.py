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
    return (PortClaim(type_, ports),)


def entrypoints(tables, service):
    return tables.find_entrypoints(service).get("tcp", {})


def assigned(tables, service):
    return tables.find_assigned(service).get("tcp", {})


def pending(tables, service):
    return tables.find_pending(service).get("tcp", set())


def test_services_get_entrypoints_in_the_order_of_their_keys():
    tables = build_tables()
    tables.apply_claims({B: claim(80), A: claim(80)})
    assert entrypoints(tables, A) == {80: 10000}
    assert entrypoints(tables, B) == {80: 10001}


def test_a_service_at_the_limit_can_move_its_port():
    tables = build_tables(limit=1)
    tables.apply_claims({A: claim(80)})
    tables.apply_claims({A: claim(81)})
    assert entrypoints(tables, A) == {81: 10000}


def test_what_does_not_fit_waits_for_a_free_port():
    tables = build_tables(limit=2)
    assert tables.apply_claims({A: claim(80, 81), B: claim(80), C: claim(80)}) == set()
    assert entrypoints(tables, B) == {}
    assert tables.apply_claims({A: claim(81)}) == {B}
    assert entrypoints(tables, B) == {80: 10000}
    assert tables.apply_claims({A: ()}) == {C}


def test_a_service_may_fit_in_part():
    tables = build_tables(limit=1)
    tables.apply_claims({A: claim(80, 81)})
    assert entrypoints(tables, A) == {80: 10000}


def test_a_service_that_is_gone_does_not_wait():
    tables = build_tables(limit=1)
    tables.apply_claims({A: claim(80), B: claim(80)})
    tables.apply_claims({B: ()})
    assert tables.apply_claims({A: ()}) == set()
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
    assert entrypoints(tables, B) == {80: 10001}
    assert set(entrypoints(tables, C).values()) == {10000, 10002}


def test_the_version_rises_only_with_a_change_of_the_mapping():
    tables = build_tables(limit=1)
    tables.apply_claims({A: claim(80)})
    version = tables.version
    tables.apply_claims({A: claim(80), B: claim(80)})
    assert tables.version == version
    tables.apply_claims({A: ()})
    assert tables.version > version


PORTS = st.sampled_from([(1,), (2,), (1, 2)])
CLAIMS = st.dictionaries(st.sampled_from(["tcp", "x"]), PORTS, max_size=2).map(
    lambda found: tuple(PortClaim(name, ports) for name, ports in found.items())
)
CLAIM_STEPS = st.lists(st.dictionaries(st.sampled_from([A, B, C]), CLAIMS, max_size=3), max_size=12)


@given(CLAIM_STEPS)
def test_no_service_waits_while_a_port_is_free_and_a_restart_changes_nothing(steps):
    tables = build_tables(limit=2)
    current = {}
    for step in steps:
        current.update(step)
        tables.apply_claims(step)
        for type_, count in (("tcp", 2), ("x", 2)):
            wanted = sum(len(each.ports) for claims in current.values() for each in claims if each.name == type_)
            assert len(tables.list_assigned().get(type_, {})) == min(wanted, count)
    again = build_tables(limit=2, assigned=tables.list_assigned())
    again.apply_claims(current, is_everything=True)
    for each in (A, B, C):
        assert entrypoints(again, each) == entrypoints(tables, each)


# --- with the mapping in a cluster ---


def build_cluster(limit=3, *, leads=True, clock=lambda: 0.0):
    tables = build_tables(limit, is_cluster=True, clock=clock)
    tables.set_allocating(is_allocating=leads)
    return tables


def test_only_written_entrypoints_are_found_and_the_others_are_pending():
    tables = build_cluster()
    tables.apply_claims({A: claim(80, 81)})
    assert assigned(tables, A) == {80: 10000, 81: 10001}
    assert (entrypoints(tables, A), pending(tables, A)) == ({}, {80, 81})
    assert tables.apply_written(A, {"tcp": {80: 10000}}) == {A}
    assert (entrypoints(tables, A), pending(tables, A)) == ({80: 10000}, {81})
    assert tables.apply_written(A, {"tcp": {80: 10000}}) == set()


def test_a_claim_that_does_not_fit_is_pending_only_without_the_lead():
    for leads in (True, False):
        tables = build_cluster(limit=1, leads=leads)
        tables.apply_written(A, {"tcp": {80: 10000}})
        tables.apply_claims({A: claim(80), B: claim(80)})
        assert pending(tables, B) == (set() if leads else {80})


def test_a_new_leader_assigns_ports_that_are_not_written_for_others():
    tables = build_cluster(leads=False)
    tables.apply_written(B, {"tcp": {80: 10000}})
    tables.apply_claims({A: claim(80), B: claim(80)})
    assert tables.set_allocating(is_allocating=True) == {A}
    assert assigned(tables, A) == {80: 10001}


def test_a_controller_that_stops_leading_drops_what_is_not_written_and_adopts_what_is():
    tables = build_cluster()
    tables.apply_claims({A: claim(80), B: claim(80), C: claim(80)})
    tables.apply_written(A, {"tcp": {80: 10000}})
    tables.apply_written(B, {"tcp": {80: 10001}})
    tables.apply_written(A, {"tcp": {80: 10002}})  # C's pending port is replaced, but A keeps its own for now
    assert entrypoints(tables, A) == {80: 10000}
    assert tables.set_allocating(is_allocating=False) >= {A}
    assert entrypoints(tables, A) == {80: 10002}
    assert assigned(tables, C) == {}
    assert pending(tables, C) == {80}
    tables.apply_written(C, {"tcp": {80: 10000}})
    assert entrypoints(tables, C) == {80: 10000}


def test_a_waiting_service_gets_a_port_that_is_no_longer_written():
    tables = build_cluster(limit=1)
    tables.apply_claims({A: claim(80)})
    tables.apply_written(A, {"tcp": {80: 10000}})
    tables.apply_claims({B: claim(80)})
    assert tables.apply_claims({A: claim(80, type_="x")}) == set()
    assert assigned(tables, B) == {}
    assert tables.apply_written(A, {"x": {80: 1}}) == {A, B}
    assert assigned(tables, B) == {80: 10000}


def test_a_waiting_service_gets_a_port_whose_reservation_has_expired():
    clock = Clock()
    tables = build_cluster(limit=1, clock=clock)
    tables.apply_claims({A: claim(80), B: claim(80)})
    assert tables.apply_claims({A: ()}) == set()
    clock.now = GRACE_S
    assert tables.apply_claims({}) == {B}


def test_a_service_at_the_limit_can_move_its_port_in_a_cluster_but_keeps_what_is_written_for_its_others():
    tables = build_cluster(limit=2)
    tables.apply_claims({A: claim(80, 81)})
    tables.apply_written(A, {"tcp": {80: 10000, 81: 10001}})
    tables.apply_claims({A: claim(82, 81)})
    assert assigned(tables, A) == {81: 10001, 82: 10000}
    again = build_cluster(limit=2)
    again.apply_written(A, {"tcp": {80: 10000, 81: 10001}})
    again.apply_claims({A: claim(82, 81)})
    assert assigned(again, A) == {81: 10001, 82: 10000}


def test_what_is_written_of_a_service_is_found_as_a_claim():
    tables = build_cluster(leads=False)
    tables.apply_written(A, {"x": {80: 1, 81: 2}})
    assert tables.find_written(A) == claim(80, 81, type_="x")
    assert tables.find_written(B) == ()


def test_a_service_has_entrypoints_of_several_ranges_for_one_port_number():
    tables = build_tables()
    tables.apply_claims({A: (PortClaim("tcp", (53,)), PortClaim("x", (53,)))})
    assert tables.find_entrypoints(A) == {"tcp": {53: 10000}, "x": {53: 1}}
    tables.apply_claims({A: claim(53, type_="x")})
    assert tables.find_entrypoints(A) == {"x": {53: 1}}


def test_what_is_written_in_several_ranges_is_found_as_several_claims():
    tables = build_cluster(leads=False)
    tables.apply_written(A, {"tcp": {80: 10000}, "x": {53: 1}})
    assert tables.find_written(A) == (PortClaim("tcp", (80,)), PortClaim("x", (53,)))
