"""Requests begin and end; those above the limit are refused. Workers are in one process and share memory."""

import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from maesh_concurrency.proxy import ConcurrencyFactory
from maesh_concurrency.settings import ServiceConcurrency

from maesh_testing import FakeExchange, FakeNode


class World:
    """A node with workers, which all have the limit of one service."""

    def __init__(self, workers=1, **settings):
        self.node = FakeNode(workers)
        self.settings = ServiceConcurrency(**settings)
        self.factories = [ConcurrencyFactory(self.node.get_worker(slot)) for slot in range(workers)]
        self.limits = [self.build(factory) for factory in self.factories]

    def build(self, factory):
        return factory.build_middleware(self.settings, "shop/cart")

    def begin(self, worker=0, **options):
        """Begin a request; return it, or the status of the refusal."""
        exchange = FakeExchange(service="shop/cart:80", **options)
        answer = self.limits[worker].on_request(exchange)
        if answer is None:
            return exchange
        self.limits[worker].on_finished(exchange)  # it reached this middleware
        return answer.status

    def end(self, exchange, worker=0):
        self.limits[worker].on_finished(exchange)

    def read_metrics(self, worker=0):
        return {
            (family.name.removeprefix("maesh_concurrency_"), *labels): value
            for family in self.factories[worker].collect_metrics()
            for labels, value in family.samples
        }


def test_requests_above_the_limit_are_refused_until_one_ends():
    world = World(limit=2)
    first, second = world.begin(), world.begin()
    assert [world.begin(), world.begin()] == [503, 503]
    world.end(first)
    third = world.begin()
    assert world.begin() == 503
    for each in (second, third):
        world.end(each)
    assert world.read_metrics() == {
        ("refused_total", "shop/cart:80"): 3,
        ("running", "shop/cart"): 0,
        ("limit", "shop/cart"): 2,
    }


def test_workers_of_a_node_count_together():
    world = World(workers=3, limit=2)
    first = world.begin(0)
    world.begin(1)
    assert [world.begin(worker) for worker in range(3)] == [503] * 3
    world.end(first, 0)
    assert world.begin(2) != 503


def test_only_the_first_worker_reports_the_limit_so_that_it_is_not_added_up():
    world = World(workers=2, limit=7)
    assert [("limit", "shop/cart") in world.read_metrics(worker) for worker in range(2)] == [True, False]


def test_the_successor_of_a_worker_begins_with_no_requests():
    world = World(workers=2, limit=1)
    world.begin(0)
    assert world.begin(1) == 503
    world.factories[0] = ConcurrencyFactory(world.node.get_worker(0))
    world.limits[0] = world.build(world.factories[0])
    assert world.begin(1) != 503


@pytest.mark.parametrize("settings", [{"limit": 1}, {"limit": 1, "sources": ("ip",)}])
def test_a_limit_that_is_built_again_continues_with_the_requests_that_run(settings):
    world = World(workers=2, **settings)
    exchange, former = world.begin(0), world.limits[0]
    world.limits[0] = world.build(world.factories[0])
    assert isinstance(world.begin(0), int)
    assert isinstance(world.begin(1), int)
    former.on_finished(exchange)
    assert not isinstance(world.begin(0), int)


@pytest.mark.parametrize("settings", [{"limit": 1}, {"limit": 1, "sources": ("ip",)}])
def test_a_limit_that_is_gone_leaves_nothing_behind(settings):
    world = World(**settings)
    world.end(world.begin())
    gc.disable()
    try:
        world.limits.clear()
        assert not [name for name in world.read_metrics() if name[0] != "refused_total"]
    finally:
        gc.enable()


@pytest.mark.parametrize("workers", [1, 2])
def test_each_client_has_the_limit_for_itself(workers):
    world = World(workers=workers, limit=1, sources=("header:user",))
    last = workers - 1
    first = world.begin(0, headers={b"User": b"a"})
    assert world.begin(last, headers={b"User": b"a"}) == 429
    assert world.begin(last, headers={b"User": b"b"}) != 429
    assert world.begin(last) != 429
    assert world.begin(0) == 429
    world.end(first, 0)
    assert world.begin(last, headers={b"User": b"a"}) != 429


def test_requests_that_a_source_leaves_alone_are_not_counted():
    world = World(limit=1, sources=("path:/slow",))
    others = [world.begin(target=b"/") for _ in range(3)]
    assert 429 not in others
    for each in others:
        world.end(each)
    world.begin(target=b"/slow")
    assert world.begin(target=b"/slow") == 429


def test_clients_that_have_ended_their_requests_are_forgotten():
    world = World(limit=5, sources=("header:user",))
    for number in range(100):
        world.end(world.begin(headers={b"User": b"%d" % number}))
    assert world.limits[0]._counts.own == 0
    assert not world.limits[0]._running


def test_an_unknown_source_is_an_error():
    with pytest.raises(ValueError, match="does not know"):
        World(limit=1, sources=("planet:mars",))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 2), st.integers(0, 3)), max_size=80), st.integers(1, 4))
def test_no_more_run_than_the_limit_and_none_is_refused_below_it(steps, limit):
    for sources in ((), ("header:user",)):
        world = World(workers=3, limit=limit, sources=sources)
        running: list[tuple[FakeExchange, int, int]] = []
        for begins, worker, client in steps:
            if begins:
                key = client if sources else 0
                count = sum(each == key for _, _, each in running)
                begun = world.begin(worker, headers={b"User": b"%d" % client})
                assert isinstance(begun, int) == (count >= limit)
                if not isinstance(begun, int):
                    running.append((begun, worker, key))
            elif running:
                exchange, owner, _ = running.pop(client % len(running))
                world.end(exchange, owner)


def test_an_adaptive_limit_learns_of_responses_and_failures():
    world = World(limit=100, is_adaptive=True)
    (limit,) = world.limits
    assert limit.read_limit() == 20
    running = [world.begin() for _ in range(20)]
    assert world.begin() == 503
    world.node.clock.now = 10.0
    for seconds in (0.0, 1.0):
        world.node.clock.now += seconds
        for exchange in running:
            exchange.attempt_seconds = 0.01
            limit.on_response(exchange)
            limit.on_attempt_failed(exchange, TimeoutError())
    assert limit.read_limit() == 24
    assert world.begin() != 503
