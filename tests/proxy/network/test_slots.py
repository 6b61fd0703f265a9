"""Slots: how many connections there may be, and how many of each client."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.proxy.network.slots import Slots, fit_connection_limit
from maesh_core.settings import CarryingSettings, ProxySettings


def build(limit=0, client_limit=0):
    return CarryingSettings(connection_limit=limit, client_connection_limit=client_limit)


def test_without_limits_everybody_gets_a_slot():
    slots = Slots()
    assert all(slots.acquire("10.0.0.1", build(), taken=number) for number in range(1000))
    assert slots.refused == {"connection-limit": 0, "client-connection-limit": 0}


def test_a_client_at_its_own_limit_is_refused_before_anybody_is_evicted():
    slots, settings = Slots(), build(1, 1)
    assert slots.acquire("10.0.0.1", settings, taken=0)
    assert not slots.acquire("10.0.0.1", settings, taken=1, evict=lambda: pytest.fail("nobody has to go"))
    assert slots.refused == {"connection-limit": 0, "client-connection-limit": 1}
    assert slots.acquire("10.0.0.2", settings, taken=1, evict=lambda: True)
    assert slots.evicted == 1


def test_where_nobody_can_be_evicted_a_client_is_refused_and_counted():
    slots, settings = Slots(), build(1)
    assert not slots.acquire("10.0.0.1", settings, taken=1, evict=lambda: False)
    assert not slots.acquire("10.0.0.1", settings, taken=1)
    assert list(slots.count_refused("x").samples) == [(("connection-limit",), 2), (("client-connection-limit",), 0)]


def test_a_client_whose_own_connection_was_evicted_holds_as_many_as_before():
    slots, settings = Slots(), build(2, 3)
    assert slots.acquire("10.0.0.1", settings, taken=0)
    assert slots.acquire("10.0.0.1", settings, taken=1)

    def evict():
        slots.release("10.0.0.1")
        return True

    assert all(slots.acquire("10.0.0.1", settings, taken=2, evict=evict) for _ in range(9))
    for _ in range(2):
        slots.release("10.0.0.1")
    assert "0 addresses" in repr(slots)


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(["10.0.0.1", "::ffff:10.0.0.1", "fd00::1"]))))
def test_no_address_ever_holds_more_than_its_limit_and_nothing_is_left_of_those_that_leave(steps):
    slots, settings, held = Slots(), build(0, 2), []
    for is_coming, address in steps:
        client = address.removeprefix("::ffff:")
        if is_coming:
            assert slots.acquire(address, settings, taken=len(held)) is (held.count(client) < 2)
            held += [client] * (held.count(client) < 2)
        elif client in held:
            held.remove(client)
            slots.release(address)
    assert slots._by_address == {client: held.count(client) for client in held}


@pytest.mark.parametrize(
    ("setting", "open_files", "limit"),
    [
        (10_000, 1_048_576, 10_000),
        (10_000, None, 10_000),
        (10_000, 4096, 1365),
        (100, 4096, 100),
        (0, 4096, 1365),
        (0, None, 0),
        (10_000, 2, 1),
    ],
)
def test_there_are_no_more_slots_than_descriptors_can_serve(setting, open_files, limit):
    settings = ProxySettings(connection_limit=setting)
    assert fit_connection_limit(settings, open_files).connection_limit == limit
