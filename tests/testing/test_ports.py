"""Ports that tests are given: free, not again soon, and never those of another process."""

import atexit
import random
import socket
import subprocess
import sys

from maesh_testing.ports import LOTS, STRIDE, PortFinder, claim_lot, find_free_port

SIZE = 40


def claim_range() -> tuple[socket.socket, int]:
    """Claim a range for this process, so that no other one that runs these tests claims lots of it."""
    firsts = list(range(11000, 19000 - LOTS * SIZE, LOTS * SIZE))
    for first in random.sample(firsts, len(firsts)):
        claim_of_range = socket.socket(socket.AF_UNIX)
        try:
            claim_of_range.bind(f"\0maesh-test-of-ports-{first}")
        except OSError:
            claim_of_range.close()
            continue
        return claim_of_range, first
    raise AssertionError("every range is claimed by another process")


RANGE, FIRST = claim_range()
atexit.register(RANGE.close)
LAST = FIRST + LOTS * SIZE - 1
PROGRAM = f"""
from maesh_testing.ports import claim_lot
lot = claim_lot({FIRST}, {LAST})
print(lot.ports[0], lot.is_shared, flush=True)
input()
"""


def claim(count):
    return [claim_lot(FIRST, LAST) for _ in range(count)]


def test_lots_cover_the_range_and_do_not_overlap():
    lots = claim(LOTS)
    try:
        assert not any(lot.is_shared for lot in lots)
        assert sorted(port for lot in lots for port in lot.ports) == list(range(FIRST, LAST + 1))
    finally:
        for lot in lots:
            lot.release()


def test_where_every_lot_is_claimed_a_process_shares_the_range():
    lots = claim(LOTS)
    (late,) = claim(1)
    assert late.is_shared
    assert late.ports == range(FIRST, LAST + 1)
    assert late.find(socket.SOCK_STREAM) in late.ports
    lots.pop().release()
    (next_,) = claim(1)
    assert not next_.is_shared
    for lot in (*lots, next_):
        lot.release()


def test_a_lot_belongs_to_one_process_until_that_ends():
    lots = claim(LOTS - 1)
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout.readline().split()[1] == "False"
        (late,) = claim(1)
        assert late.is_shared
        process.communicate("\n")
    (late,) = claim(1)
    assert not late.is_shared
    for lot in (*lots, late):
        lot.release()


def test_a_port_comes_again_only_after_all_others_of_the_lot():
    (lot,) = claim(1)
    found = [lot.find(socket.SOCK_STREAM) for _ in range(len(lot.ports))]
    assert sorted(found) == list(lot.ports)
    assert lot.find(socket.SOCK_STREAM) == found[0]
    lot.release()


def test_a_service_has_room_for_further_ports_behind_each():
    (lot,) = claim(1)
    first, second = lot.find(socket.SOCK_STREAM), lot.find(socket.SOCK_STREAM)
    assert second == first + STRIDE
    lot.release()


def test_a_port_that_is_bound_is_passed_over_for_its_kind_alone():
    (lot,) = claim(1)
    with socket.socket(type=socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", lot.ports[0]))
        assert lot.find(socket.SOCK_DGRAM) == lot.ports[STRIDE]
    lot.release()


def test_a_range_smaller_than_the_number_of_lots_has_a_port_in_each():
    lots = [claim_lot(FIRST, FIRST + 1) for _ in range(3)]
    assert sorted(lot.is_shared for lot in lots) == [False, False, True]
    for lot in lots:
        lot.release()


def test_each_range_has_a_lot_of_its_own():
    finder = PortFinder()
    assert finder.find(socket.SOCK_STREAM, FIRST, LAST) in range(FIRST, LAST + 1)
    assert finder.find(socket.SOCK_STREAM, LAST + 1, LAST + 99) in range(LAST + 1, LAST + 100)
    finder.release()


def test_a_test_is_given_ports_below_those_of_outgoing_connections():
    with open("/proc/sys/net/ipv4/ip_local_port_range") as file:
        assert find_free_port() < int(file.read().split()[0])
