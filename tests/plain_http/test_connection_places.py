"""Which connections make room for a new one."""

import pytest

from maesh_core.plain_http.connection_places import ConnectionPlaces


class Client:
    def __init__(self, address="10.0.0.1"):
        self.address, self.is_cut = address, False

    def cut(self):
        self.is_cut = True


def admit(places, count, address="10.0.0.1"):
    clients = [Client(address) for _ in range(count)]
    assert [places.admit(each) for each in clients] == [True] * count
    return clients


def list_cut(clients):
    return [number for number, each in enumerate(clients) if each.is_cut]


def test_the_longest_idle_connection_makes_room():
    places = ConnectionPlaces(limit=3)
    clients = admit(places, 3)
    for number in (1, 0, 1):
        places.note_idle(clients[number])
    admit(places, 1)
    assert list_cut(clients) == [0]


def test_without_an_idle_one_the_longest_stalled_makes_room_also_if_it_reads_a_little():
    places = ConnectionPlaces(limit=3)
    clients = admit(places, 3)
    for number in (1, 0, 1):
        places.note_stalled(clients[number])
    admit(places, 1)
    assert list_cut(clients) == [1]


def test_a_client_that_has_read_everything_is_stalled_no_longer():
    places = ConnectionPlaces(limit=1)
    (client,) = admit(places, 1)
    places.note_stalled(client)
    places.note_idle(client)
    assert (list(places.stalled), list(places.idle)) == ([], [client])


def test_connections_that_wait_for_an_answer_make_no_room():
    places = ConnectionPlaces(limit=1)
    clients = admit(places, 1)
    assert not places.admit(Client())
    assert list_cut(clients) == []


def test_an_address_at_its_limit_makes_room_itself():
    places = ConnectionPlaces(limit=10, address_limit=2)
    others, own = admit(places, 2, "10.0.0.2"), admit(places, 2)
    for each in (*others, own[1]):
        places.note_idle(each)
    admit(places, 1)
    assert (list_cut(others), list_cut(own)) == ([], [1])
    assert not places.admit(Client()), "the others wait for answers"
    assert places.admit(Client("10.0.0.3"))


def test_a_proven_client_does_not_count_for_its_address():
    places = ConnectionPlaces(limit=10, address_limit=1)
    for _ in range(3):
        (client,) = admit(places, 1)
        places.note_proven(client)
    admit(places, 1)
    assert not places.admit(Client())


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.22.1", "::1", "::ffff:127.0.0.1"])
def test_loopback_has_no_limit_of_its_own(address):
    admit(ConnectionPlaces(limit=10, address_limit=1), 10, address)


def test_nothing_is_kept_of_connections_that_have_left():
    places = ConnectionPlaces(limit=2, address_limit=1)
    for _ in range(3):
        (client,) = admit(places, 1)
        places.note_stalled(client)
        places.forget(client)
    assert not places.all
    assert not places.stalled
    assert not places._unproven
    assert repr(places) == "<ConnectionPlaces 0 of 2, 0 idle, 0 stalled>"
