"""Accepted clients: whose connection is made next."""

from hypothesis import given
from hypothesis import strategies as st

from maesh_core.proxy.http.clients.arrivals import ARRIVED_LIMIT, COMPARED_LIMIT, Arrivals


class Client:
    """A client that says whose it is, and whether it was closed."""

    def __init__(self, address, number):
        self.address, self.number, self.is_closed = address, number, False

    def close(self):
        self.is_closed = True


def test_addresses_take_turns_and_each_keeps_its_order():
    arrivals = Arrivals()
    for number in range(4):
        arrivals.add(Client("greedy", number))
    arrivals.add(Client("late", 0))
    popped = [arrivals.pop() for _ in range(len(arrivals))]
    assert [(client.address, client.number) for client in popped] == [
        ("greedy", 0),
        ("late", 0),
        ("greedy", 1),
        ("greedy", 2),
        ("greedy", 3),
    ]
    assert not arrivals


def test_of_too_many_the_latest_one_of_the_address_that_has_most_is_closed():
    arrivals = Arrivals()
    greedy = [Client("greedy", number) for number in range(ARRIVED_LIMIT - 1)]
    for client in greedy:
        arrivals.add(client)
    modest = [Client("modest", number) for number in range(3)]
    for client in modest:
        arrivals.add(client)
    assert [client.is_closed for client in modest] == [False] * 3
    assert [client.number for client in greedy if client.is_closed] == [ARRIVED_LIMIT - 3, ARRIVED_LIMIT - 2]
    assert len(arrivals) == ARRIVED_LIMIT


def test_of_too_many_of_too_many_addresses_the_newest_is_closed():
    arrivals = Arrivals()
    clients = [Client(f"10.0.{number % (COMPARED_LIMIT + 1)}", number) for number in range(ARRIVED_LIMIT + 2)]
    for client in clients:
        arrivals.add(client)
    assert [client.number for client in clients if client.is_closed] == [ARRIVED_LIMIT, ARRIVED_LIMIT + 1]
    assert len(arrivals) == ARRIVED_LIMIT


@given(st.lists(st.one_of(st.sampled_from("abc"), st.none())))
def test_every_address_waits_for_one_turn_of_each_other_address_at_most(story):
    """Each step adds a client of an address, or takes one."""
    arrivals, passed_over = Arrivals(), {}
    waiting: dict[str, list[int]] = {}
    for number, address in enumerate(story):
        if address is not None:
            arrivals.add(Client(address, number))
            waiting.setdefault(address, []).append(number)
            passed_over.setdefault(address, 0)
        elif arrivals:
            client = arrivals.pop()
            assert waiting[client.address].pop(0) == client.number
            for other, numbers in waiting.items():
                passed_over[other] = passed_over[other] + 1 if numbers and other != client.address else 0
                assert passed_over[other] < 3
        assert sum(len(numbers) for numbers in waiting.values()) == len(arrivals)
