import pytest

from maesh_core.controller.api import HELD_PULLS_LIMIT
from maesh_core.controller.api_clients import (
    CONNECTION_LIMIT,
    CONNECTION_MINIMUM,
    RESERVED_DESCRIPTORS,
    ApiClients,
    choose_connection_limit,
)


class Connection:
    def __init__(self, *, is_idle=True):
        self.is_idle, self.is_closed = is_idle, False

    def force_close(self):
        self.is_closed = True


def open_connections(clients, *, count, is_idle=True):
    connections = [Connection(is_idle=is_idle) for _ in range(count)]
    assert all(clients.admit(each) for each in connections)
    return connections


def test_below_the_limit_nothing_is_closed():
    assert not any(each.is_closed for each in open_connections(ApiClients(3), count=3))


def test_at_the_limit_the_connection_that_sent_nothing_for_longest_makes_room():
    clients = ApiClients(3)
    first, second, third = open_connections(clients, count=3)
    clients.note_bytes(first)
    assert clients.admit(Connection())
    assert [first.is_closed, second.is_closed, third.is_closed] == [False, True, False]


def test_a_connection_with_a_request_under_way_stays_and_one_too_many_is_refused():
    clients = ApiClients(2)
    busy = open_connections(clients, count=2, is_idle=False)
    assert not clients.admit(Connection())
    clients.forget(busy[0])
    (idle,) = open_connections(clients, count=1)
    assert clients.admit(Connection(is_idle=False))
    assert idle.is_closed
    assert not busy[1].is_closed


def test_what_is_gone_or_was_refused_is_not_counted():
    clients = ApiClients(1)
    (only,) = open_connections(clients, count=1, is_idle=False)
    refused = Connection()
    assert not clients.admit(refused)
    clients.note_bytes(refused)
    clients.forget(refused)
    clients.forget(only)
    assert clients.admit(refused)


@pytest.mark.parametrize(
    ("open_files", "limit"),
    [
        (None, CONNECTION_LIMIT),
        (10**6, CONNECTION_LIMIT),
        (1024, 1024 - RESERVED_DESCRIPTORS),
        (100, CONNECTION_MINIMUM),
    ],
)
def test_descriptors_are_left_for_the_controllers_own_work(open_files, limit):
    assert choose_connection_limit(open_files) == limit


def test_every_pull_that_may_be_held_has_a_connection():
    assert CONNECTION_LIMIT > HELD_PULLS_LIMIT
