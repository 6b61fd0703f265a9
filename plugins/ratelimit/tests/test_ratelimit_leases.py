"""Workers, a model of Redis and a clock: what a mesh admits is never more than the limit and what was leased."""

import heapq
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from maesh_ratelimit.buckets import BucketTable
from maesh_ratelimit.node_store import NodeStore
from maesh_ratelimit.redis_store.leases import BATCH_LIMIT, LEASE_S, LEASES_LIMIT, Lease, LeaseBook, Terms
from maesh_ratelimit.redis_store.limiter import LocalShare, RedisLimiter
from maesh_ratelimit.redis_store.script import parse_answer
from maesh_ratelimit.settings import Limit
from maesh_ratelimit.store import ASK, Limiter

from maesh_testing import FakeNode

from .redis_model import ModelRedis


class FakeWaiter:
    """A request that waits, as a future."""

    def __init__(self):
        self.result = None
        self.is_cancelled = False

    def done(self):
        return self.is_cancelled or self.result is not None

    def set_result(self, wait_s):
        self.result = wait_s


class Worker:
    """A worker with one limit; its requests wait in `waiters`."""

    def __init__(self, world, limit):
        self.world = world
        self.wakes = []
        self.book = LeaseBook(lambda: self.wakes.append("now"), lambda: self.wakes.append("soon"))
        self.terms = Terms(limit, Limiter(limit).longest_wait_s)
        self.owner = {}
        self.admitted = self.refused = 0
        self.waiters = []

    def request(self, source="a", *, local=lambda source: 9.0):
        """Send a request as RedisLimiter does; return its waiter if it waits."""
        lease = self.owner.get(source)
        if lease is not None and lease.tokens > 0:
            lease.tokens -= 1
            self.admitted += 1
            if lease.tokens < lease.low:
                self.book.mark(lease)
            return None
        wait_s = lease.empty_until - self.world.now if lease is not None else 0.0
        if wait_s > self.terms.longest_wait_s or (wait_s > 0 and self.terms.scarce_s):
            self.refused += 1
            if self.terms.scarce_s:
                self.book.mark(lease)
            return None
        if lease is None:
            lease = self.open(source, local=local)
        waiter = FakeWaiter()
        self.waiters.append(waiter)
        self.book.wait(lease, waiter)
        return waiter

    def open(self, source, *, local=lambda source: 9.0):
        """Open a lease for which no request waits yet."""
        lease = Lease(source.encode(), self.terms, source, self.owner, local)
        self.book.open(lease, self.world.now)
        return lease

    def settle(self):
        """Count the requests that have been decided."""
        for waiter in self.waiters:
            if waiter.result is not None:
                admitted = waiter.result <= self.terms.longest_wait_s
                self.admitted += admitted
                self.refused += not admitted
        self.waiters = [waiter for waiter in self.waiters if not waiter.done()]


class World:
    """A clock, Redis, and workers."""

    def __init__(self):
        self.now = 100.0
        self.redis = ModelRedis()

    def start_worker(self, *, average=100, burst=100, period_s=1.0):
        return Worker(self, Limit(name="a", average=average, burst=burst, period_s=period_s))

    def pass_time(self, seconds):
        self.now += seconds
        self.redis.now_us += round(seconds * 1e6)

    def send(self, batch):
        """Let Redis decide about a batch; the answer is on its way."""
        return parse_answer([1, *self.redis.run(batch.questions)], batch.questions)[1]

    def exchange(self, worker):
        """Ask and answer at once."""
        batch = worker.book.build_batch(self.now)
        worker.book.accept(batch, self.send(batch), self.now)
        worker.settle()
        return batch


@pytest.fixture
def world():
    return World()


def test_the_first_request_of_a_client_waits_for_redis_and_the_next_ones_spend_what_was_leased(world):
    worker = world.start_worker()
    waiter = worker.request()
    assert (waiter.result, worker.wakes) == (None, ["now"])
    world.exchange(worker)
    assert waiter.result == 0.0
    asked = []
    for _ in range(30):
        worker.request()
        asked += [each.asked for each in world.exchange(worker).questions]
    assert worker.admitted == 31
    assert max(asked) <= worker.terms.largest == 10


def test_requests_that_come_together_are_asked_for_together(world):
    worker = world.start_worker(burst=20)
    waiters = [worker.request() for _ in range(30)]
    assert [each.asked for each in world.exchange(worker).questions] == [20]
    assert [waiter.result for waiter in waiters].count(0.0) == 20
    assert all(waiter.result > worker.terms.longest_wait_s for waiter in waiters[20:])
    assert worker.book.waiting == 0


def test_a_client_without_tokens_is_refused_without_asking_until_the_next_one_is_due(world):
    worker = world.start_worker(average=10, burst=1)
    for _ in range(2):
        worker.request()
        world.exchange(worker)
    assert (worker.admitted, worker.refused) == (1, 1)
    assert worker.request() is None
    assert not worker.book.has_work()
    world.pass_time(0.06)
    waiter = worker.request()
    world.exchange(worker)
    assert waiter.result == pytest.approx(0.04, abs=1e-4)


def test_under_overload_tokens_are_fetched_together_and_no_request_waits(world):
    worker = world.start_worker(average=1000, burst=1000)
    waited = 0
    for _ in range(400):
        waited += sum(worker.request() is not None for _ in range(50))
        world.exchange(worker)
        world.pass_time(0.005)
    assert worker.admitted == pytest.approx(3000, rel=0.02)
    assert waited < 0.1 * 400 * 50


def test_a_small_bucket_is_asked_for_tokens_as_soon_as_there_are_some(world):
    worker = world.start_worker(average=1000, burst=5)
    for _ in range(400):
        for _ in range(50):
            worker.request()
        world.exchange(worker)
        world.pass_time(0.005)
    assert worker.admitted == pytest.approx(2000, rel=0.02)


def test_a_waiter_that_comes_while_an_answer_is_on_its_way_is_asked_for_again(world):
    worker = world.start_worker()
    worker.request()
    batch = worker.book.build_batch(world.now)
    late = worker.request()
    assert worker.book.build_batch(world.now).questions == []
    worker.book.accept(batch, world.send(batch), world.now)
    assert late.result is None
    world.exchange(worker)
    assert late.result == 0.0


def test_a_token_of_a_client_that_has_left_stays_for_its_next_request(world):
    worker = world.start_worker(burst=1)
    worker.request().is_cancelled = True
    world.exchange(worker)
    assert worker.request() is None
    assert (worker.admitted, worker.book.waiting) == (1, 0)


def test_tokens_that_a_worker_does_not_use_return_after_a_second(world):
    worker = world.start_worker(average=100, burst=100)
    for _ in range(20):
        worker.request()
        world.exchange(worker)
    held = worker.owner["a"].tokens
    assert held > 0
    world.pass_time(LEASE_S)
    worker.book.expire(world.now)
    assert worker.owner == {}
    assert [each.returned for each in world.exchange(worker).questions] == [held]
    assert (worker.book.granted - worker.book.returned, len(worker.book)) == (20, 0)


def test_leases_are_limited_and_the_oldest_is_given_up(world):
    worker = world.start_worker()
    for number in range(LEASES_LIMIT + 5):
        worker.request(str(number))
        world.exchange(worker)
    assert len(worker.book) == len(worker.owner) == LEASES_LIMIT
    assert "0" not in worker.owner


def test_at_the_limit_a_lease_for_which_a_request_waits_is_kept_and_the_next_one_ends(world):
    worker = world.start_worker()
    waiting = worker.request("0")
    for number in range(1, LEASES_LIMIT):
        worker.open(str(number))
    worker.open("further")
    assert len(worker.book) == len(worker.owner) == LEASES_LIMIT
    assert (waiting.done(), "0" in worker.owner, "1" in worker.owner) == (False, True, False)


def test_a_batch_is_limited_and_the_rest_is_the_next_one(world):
    worker = world.start_worker()
    for number in range(BATCH_LIMIT + 5):
        worker.request(str(number))
    assert [len(world.exchange(worker).questions) for _ in range(3)] == [BATCH_LIMIT, 5, 0]


def test_requests_that_wait_are_decided_by_the_nodes_share_when_redis_is_away(world):
    worker = world.start_worker()
    first = worker.request("a", local=lambda source: 0.0)
    batch = worker.book.build_batch(world.now)
    second = worker.request("b", local=lambda source: 5.0)
    worker.book.fail(batch)
    assert (first.result, second.result) == (0.0, 5.0)
    assert (worker.book.waiting, worker.book.is_away, worker.book.has_work()) == (0, True, False)


def test_a_lease_that_ends_while_it_is_asked_for_returns_what_it_gets(world):
    worker = world.start_worker()
    worker.request().is_cancelled = True
    batch = worker.book.build_batch(world.now)
    lease = worker.owner["a"]
    lease.waiters.clear()
    worker.book._end(lease)
    worker.book.accept(batch, world.send(batch), world.now)
    assert [each.returned for each in worker.book.build_batch(world.now).questions] == [1]


@given(
    average=st.integers(1, 2000),
    burst=st.integers(1, 2000),
    events=st.lists(
        st.tuples(st.floats(0, 0.3), st.integers(0, 3), st.integers(1, 40), st.floats(0.0005, 0.05)), max_size=80
    ),
)
@settings(deadline=None)
def test_in_no_time_does_a_mesh_admit_more_than_the_limit_and_what_was_leased_before(average, burst, events):
    world = World()
    workers = [world.start_worker(average=average, burst=burst) for _ in range(4)]
    history = [(world.now, 0)]
    waiting, order = [], itertools.count()
    for pause_s, number, requests, latency_s in events:
        until = world.now + pause_s
        while waiting and waiting[0][0] <= until:
            at, _, worker, batch, grants = heapq.heappop(waiting)
            world.pass_time(at - world.now)
            worker.book.accept(batch, grants, world.now)
            worker.settle()
        world.pass_time(until - world.now)
        for worker in workers:
            worker.book.expire(world.now)
        worker = workers[number]
        for _ in range(requests):
            worker.request()
        if not any(entry[2] is worker for entry in waiting):
            batch = worker.book.build_batch(world.now)
            heapq.heappush(waiting, (world.now + latency_s, next(order), worker, batch, world.send(batch)))
        history.append((world.now, sum(each.admitted for each in workers)))
    largest = workers[0].terms.largest
    for (start, before), (end, after) in itertools.combinations(history, 2):
        assert after - before <= burst + average * (end - start) + 4 * max(largest, min(burst, 40)) + 1


def test_ten_times_the_limit_over_eight_workers_is_admitted_within_one_percent(world):
    """Workers of four nodes; two of them are killed at 10 s, and two new ones begin at 20 s."""
    workers = [world.start_worker(average=100, burst=100) for _ in range(8)]
    killed = []
    step_s, requests = 0.005, 0.0
    for step in range(round(30 / step_s)):
        world.pass_time(step_s)
        if step * step_s == 10:
            killed, workers = workers[:2], workers[2:]
        if step * step_s == 20:
            workers += [world.start_worker(average=100, burst=100) for _ in range(2)]
        requests += 1000 * step_s
        while requests >= 1:
            requests -= 1
            workers[step % len(workers)].request()
        for worker in workers:
            worker.book.expire(world.now)
            world.exchange(worker)
    admitted = sum(worker.admitted for worker in [*workers, *killed])
    assert 0.99 * (100 * 30 + 100) <= admitted <= 100 * 30 + 100


def build_limiter(world, worker, *, nodes, limit):
    """Build a limiter whose node has buckets of its own."""
    node = FakeNode()
    share = LocalShare(NodeStore(BucketTable(node), time=node.read_time), lambda: nodes)
    return RedisLimiter(limit, "shop/cart", worker.book, share, lambda: world.now)


def test_a_client_without_a_lease_must_be_asked_for(world):
    limiter = build_limiter(world, world.start_worker(), nodes=4, limit=Limit(name="a", average=100, burst=9))
    assert limiter.take("a") == ASK


@pytest.mark.parametrize(("burst", "nodes", "share"), [(9, 4, 2), (9, 1, 9), (2, 100, 1)])
def test_without_redis_a_node_limits_by_its_share(world, burst, nodes, share):
    worker = world.start_worker()
    limiter = build_limiter(world, worker, nodes=nodes, limit=Limit(name="a", average=1, burst=burst, period_s=60.0))
    worker.book.fail(None)
    assert [limiter.take("a") <= 0 for _ in range(20)].count(True) == share
    assert limiter.take("a") == pytest.approx(60.0 * nodes, rel=0.01)


def test_what_limits_say_of_a_bucket_is_what_redis_said_last(world):
    worker = world.start_worker()
    limiter = build_limiter(world, worker, nodes=4, limit=Limit(name="a", average=100, burst=9))
    assert limiter.count_missing("a") is None
    worker.book.fail(None)
    limiter.take("a")
    assert limiter.count_missing("a") == pytest.approx(1, abs=0.01)


STEP = st.one_of(
    st.tuples(st.just("request"), st.integers(0, 4)),
    st.tuples(st.just("leave"), st.integers(0, 50)),
    st.tuples(st.just("pass"), st.floats(0, 1.5)),
    st.tuples(st.sampled_from(["build", "accept", "fail", "return", "expire"]), st.none()),
)


@given(burst=st.integers(1, 20), steps=st.lists(STEP, max_size=60))
def test_whatever_happens_nobody_waits_for_ever_and_no_token_is_made(burst, steps):
    world = World()
    worker = world.start_worker(average=50, burst=burst)
    book, on_its_way, everybody = worker.book, None, []
    for name, value in steps:
        if name == "request" and not book.is_away:
            everybody += [waiter] if (waiter := worker.request(f"{value}", local=lambda source: 9.0)) else []
        elif name == "leave" and everybody:
            waiter = everybody[value % len(everybody)]
            waiter.is_cancelled = waiter.result is None
        elif name == "pass":
            world.pass_time(value)
        elif name == "build" and on_its_way is None and not book.is_away:
            on_its_way = book.build_batch(world.now)
        elif name == "accept" and on_its_way is not None:
            book.accept(on_its_way, world.send(on_its_way), world.now)
            on_its_way = None
        elif name == "fail":
            book.fail(on_its_way)
            on_its_way = None
        elif name == "return":
            book.is_away = False
        elif name == "expire":
            book.expire(world.now)
        assert book.waiting == sum(len(lease.waiters) for lease in worker.owner.values())
        assert all(0 <= lease.tokens <= burst for lease in worker.owner.values())
        assert len(book) == len(worker.owner)
    book.fail(on_its_way)
    assert book.waiting == 0
    assert all(waiter.done() for waiter in everybody)
    worker.settle()
    assert worker.admitted <= book.granted
