"""Rests of clients after requests that take long to match. The CPU time is faked, and no other time passes."""

import pytest

from maesh_core.model.configuration import HttpOrder, HttpRouter, HttpRule, HttpRules, Section, Server, Service
from maesh_core.model.matches import HttpMatch
from maesh_core.proxy.http import rules
from maesh_core.proxy.http.exchanges.opening import COSTLY_S, REST_LIMIT_S, REST_TIMES

from ..http2.framing import open_http2

MATCHED = b"GET /other HTTP/1.1\r\nHost: a.test.maesh\r\n\r\n"
UNMATCHED = b"GET / HTTP/1.1\r\nHost: unknown\r\n\r\n"
FIELDS = ((":method", "GET"), (":scheme", "http"), (":authority", "a.test.maesh"), (":path", "/other"))
NOT_FOUND = b"HTTP/1.1 404 "
COST_S = 1 / 64
"""A power of two, so that sums are exact."""


@pytest.fixture
def set_cost(world, monkeypatch):
    """Route the world's host by patterns that no request of these tests meets, at a cost in seconds of each match."""
    matches = (HttpMatch(path_pattern=f"/slow{number}.*") for number in range(rules.TRIED_LIMIT + 1))
    order = tuple(HttpOrder(rule=0, match=match) for match in matches)
    ruled = HttpRules(rules=(HttpRule(service="a"),), order=order)
    router = HttpRouter(entrypoint=5000, hosts=("a.test.maesh",), rules=ruled)
    service = Service(servers=(Server(address="10.0.1.1", port=80),))
    section = Section(routers={"a": router}, services={"a": service})
    world.handler.apply_table(world.handler.compile_table(section, middlewares={}, changed=None))
    spent = [0.0]

    def set_it(seconds):
        def read_time():
            spent[0] += seconds
            return spent[0]

        monkeypatch.setattr(rules, "thread_time", read_time)

    return set_it


def change_path(request, number):
    """Change the path, because a match is remembered for a head that a client repeats."""
    return request.replace(b"/other", b"/other%d" % number)


async def test_a_client_whose_request_took_long_to_match_rests_while_others_are_served(world, set_cost, pass_time):
    set_cost(COST_S)
    slow, other = world.open_client(), world.open_client()
    slow.send(b"".join(change_path(MATCHED, number) for number in range(3)))
    assert slow.take().count(NOT_FOUND) == 1
    assert not slow.transport.is_reading
    other.send(UNMATCHED * 3)
    assert other.take().count(NOT_FOUND) == 3
    pass_time(COST_S)
    assert slow.take().count(NOT_FOUND) == 1
    pass_time(COST_S)
    assert slow.take().count(NOT_FOUND) == 1
    pass_time(COST_S)
    assert slow.transport.is_reading


async def test_it_rests_longer_the_more_others_there_are_up_to_a_limit(world, set_cost, pass_time):
    set_cost(COST_S)
    slow, *others = (world.open_client() for _ in range(REST_TIMES + 5))
    slow.send(MATCHED + change_path(MATCHED, 1))
    assert slow.take().count(NOT_FOUND) == 1
    pass_time(REST_TIMES * COST_S)
    assert slow.take().count(NOT_FOUND) == 1
    pass_time(REST_TIMES * COST_S)
    set_cost(1.0)
    slow.send(change_path(MATCHED, 2) + change_path(MATCHED, 3))
    assert slow.take().count(NOT_FOUND) == 1
    pass_time(REST_LIMIT_S)
    assert slow.take().count(NOT_FOUND) == 1
    assert len(others) > REST_TIMES


async def test_a_client_that_is_alone_does_not_rest(world, set_cost):
    set_cost(COST_S)
    alone = world.open_client()
    alone.send(b"".join(change_path(MATCHED, number) for number in range(3)))
    assert alone.take().count(NOT_FOUND) == 3


async def test_no_client_rests_after_a_match_that_costs_little(world, set_cost):
    set_cost(COSTLY_S / 2)
    client, _ = world.open_client(), world.open_client()
    client.send(b"".join(change_path(MATCHED, number) for number in range(3)))
    assert client.take().count(NOT_FOUND) == 3


async def test_a_connection_of_http2_rests_too(world, set_cost, pass_time):
    set_cost(COST_S)
    slow, other = open_http2(world), world.open_client()
    slow.take()
    slow.send(slow.headers(1, FIELDS), slow.headers(3, (*FIELDS[:3], (":path", "/other3"))))
    assert [message[1] for message in slow.take_streams() if message[0] == "headers"] == [1]
    assert not slow.peer.transport.is_reading
    other.send(UNMATCHED)
    assert other.take().count(NOT_FOUND) == 1
    pass_time(COST_S)
    assert [message[1] for message in slow.take_streams() if message[0] == "headers"] == [3]
    pass_time(COST_S)
    assert slow.peer.transport.is_reading


async def test_a_connection_of_http2_that_ends_while_it_rests_is_forgotten(world, set_cost, pass_time):
    set_cost(COST_S)
    slow, other = open_http2(world), world.open_client()
    slow.send(slow.headers(1, FIELDS), slow.headers(3, (*FIELDS[:3], (":path", "/other3"))))
    slow.peer.lose()
    pass_time(COST_S)
    other.lose()
    assert not world.handler.environment.clients
