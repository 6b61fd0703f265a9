"""Which client has been idle for longest, found without a note of any request."""

import asyncio
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from maesh_core.proxy.http.idle_clients import SCANNED_PER_CALL, IdleClients
from maesh_core.proxy.network.clock import Clock


class CountedClient:
    looks = 0

    def __init__(self, number, since):
        self.number, self.since = number, since

    @property
    def idle_since(self):
        CountedClient.looks += 1
        return self.since


def build(*times):
    clock = Clock(mock.create_autospec(asyncio.AbstractEventLoop), lambda: 100.0)
    clients = {CountedClient(number, since) for number, since in enumerate(times)}
    return clock, clients, IdleClients(clients, clock)


def pop_number(idle, clients):
    client = idle.pop()
    if client is None:
        return None
    clients.remove(client)
    return client.number


def test_the_longest_idle_comes_first_and_of_equals_the_one_that_came_first():
    _, clients, idle = build(3.0, 1.0, None, 2.0, 1.0)
    assert [pop_number(idle, clients) for _ in range(5)] == [1, 4, 3, 0, None]


def test_who_has_had_a_request_since_it_was_found_is_passed_over():
    _, clients, idle = build(1.0, 2.0, 3.0)
    assert pop_number(idle, clients) == 0
    (second,) = [client for client in clients if client.number == 1]
    second.since = 4.0
    assert [pop_number(idle, clients) for _ in range(3)] == [2, 1, None]


def test_looking_costs_each_asker_a_constant_between_two_ticks():
    clock, clients, idle = build(*[None] * (SCANNED_PER_CALL * 40))
    CountedClient.looks = 0
    for _ in range(400):
        assert idle.pop() is None
    assert CountedClient.looks <= len(clients) + 400 * SCANNED_PER_CALL
    busy = next(iter(clients))
    busy.since = 1.0
    clock.now += 0.25
    assert idle.pop() is busy


def test_a_long_row_of_evictions_looks_at_each_client_a_few_times():
    _, clients, idle = build(*map(float, range(10_000)))
    CountedClient.looks = 0
    assert [pop_number(idle, clients) for _ in range(10_000)] == list(range(10_000))
    assert CountedClient.looks == 20_000


@given(st.lists(st.one_of(st.none(), st.integers(0, 5).map(float)), max_size=30), st.data())
def test_what_is_given_is_always_idle_and_nobody_else_was_for_longer_in_a_small_set(times, data):
    _, clients, idle = build(*times)
    for now in range(6, 6 + data.draw(st.integers(0, 10))):
        for client in sorted(clients, key=lambda client: client.number):
            if data.draw(st.integers(0, 3)) == 0:
                client.since = data.draw(st.sampled_from([None, float(now)]))
        found = idle.pop()
        waiting = [(client.since, client.number) for client in clients if client.since is not None]
        assert (None if found is None else (found.since, found.number)) == min(waiting, default=None)
        clients.discard(found)
