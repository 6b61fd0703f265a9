"""Which server a client comes to, and what changes when servers do."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from maesh_consistent_hash import HashSettings
from maesh_consistent_hash.proxy import ConsistentHash

from maesh_testing import FakeExchange


class FakeServer:
    def __init__(self, number):
        self.address, self.port, self.under_way = f"10.0.0.{number}", 80, 0


SERVERS = [FakeServer(number) for number in range(10)]
CLIENTS = [FakeExchange(headers={b"X-User": b"user-%d" % number}) for number in range(5000)]


def build(servers, weights=None):
    return ConsistentHash(HashSettings(header="X-User"), list(zip(servers, weights or [1] * len(servers), strict=True)))


def test_each_server_gets_its_share():
    chooser = build(SERVERS)
    shares = Counter(chooser.choose(client, SERVERS).address for client in CLIENTS)
    assert len(shares) == 10
    assert all(400 < share < 600 for share in shares.values())


def test_weights_are_shares():
    chooser = build(SERVERS[:2], [1, 3])
    shares = Counter(chooser.choose(client, SERVERS[:2]).address for client in CLIENTS)
    assert 2.5 < shares["10.0.0.1"] / shares["10.0.0.0"] < 3.5


@given(st.sets(st.sampled_from(SERVERS), min_size=2), st.integers(0, 4999))
def test_only_the_clients_of_a_server_that_goes_move(servers, number):
    servers = sorted(servers, key=lambda server: server.address)
    chosen = build(servers).choose(CLIENTS[number], servers)
    for gone in servers:
        left = [server for server in servers if server is not gone]
        moved = build(left).choose(CLIENTS[number], left)
        assert moved is chosen or gone is chosen


def test_without_the_header_it_is_the_address_that_counts():
    chooser = build(SERVERS)
    first = chooser.choose(FakeExchange(client_address="10.1.1.1"), SERVERS)
    assert chooser.choose(FakeExchange(client_address="10.1.1.1"), SERVERS) is first
    assert len({chooser.choose(FakeExchange(client_address=f"10.1.1.{n}"), SERVERS) for n in range(100)}) == 10


@pytest.fixture
def mesh(start_mesh):
    annotations = {"load-balancer": "consistent-hash", "hash-header": "X-User"}
    return start_mesh("--consistent-hash", "--workers", "2", annotations=annotations, servers=3)


def ask(mesh, user):
    return mesh.get(headers={"X-User": user}).text


def test_a_client_comes_to_one_server_through_every_worker(mesh):
    homes = {user: {ask(mesh, user) for _ in range(8)} for user in ("ann", "bob", "cid", "dan", "eve", "flo")}
    assert all(len(servers) == 1 for servers in homes.values())
    assert len(set.union(*homes.values())) > 1


def test_clients_of_a_server_that_is_down_go_elsewhere_and_come_back_to_one(mesh):
    home = ask(mesh, "ann")
    next(server for server in mesh.upstreams if server.name == home).close()
    mesh.wait_until(lambda: ask(mesh, "ann") in {"app-1", "app-2", "app-3"} - {home}, "another server")
    assert mesh.get(headers={"X-User": "ann"}).status == 200
