"""A worker's store over a link that the test answers; time stands still unless it is moved."""

import asyncio
import logging
import re
from pathlib import Path

import pytest
from maesh_ratelimit.buckets import BucketTable
from maesh_ratelimit.node_store import NodeStore
from maesh_ratelimit.proxy import RateLimitFactory
from maesh_ratelimit.redis_store.connection import StoreError
from maesh_ratelimit.redis_store.driver import HEARTBEAT_S, LONGEST_PAUSE_S, RedisStore
from maesh_ratelimit.redis_store.script import parse_answer
from maesh_ratelimit.settings import Limit, ServiceLimits
from maesh_ratelimit.store import ASK

from maesh_testing import FakeExchange, FakeNode

from .redis_model import ModelRedis

README = Path(__file__).resolve().parents[1] / "README.md"


class FakeLink:
    """A link to a model of Redis, which may be away."""

    name = "Redis"

    def __init__(self):
        self.redis = ModelRedis()
        self.nodes = 3
        self.failure = ""
        self.asked = []
        """The number of questions of each batch, and whether it was a heartbeat."""
        self.gate = asyncio.Event()
        self.gate.set()

    async def connect(self):
        await self.gate.wait()
        if self.failure:
            raise StoreError(self.failure)
        return self.nodes

    async def ask(self, questions, *, is_heartbeat):
        await self.gate.wait()
        if self.failure:
            raise StoreError(self.failure)
        self.asked.append((len(questions), is_heartbeat))
        return parse_answer([self.nodes, *self.redis.run(questions)], questions)

    async def close(self):
        pass


class World:
    """A node with a store. Pauses are as long as the test lets them be."""

    def __init__(self, *, nodes=1):
        self.node, self.link = FakeNode(), FakeLink()
        self.pauses, self.may_go_on = [], asyncio.Event()
        self.may_go_on.set()
        local = NodeStore(BucketTable(self.node), time=self.node.read_time)
        self.store = RedisStore(
            self.link, self.node, local, nodes=nodes, time=self.node.read_time, pause=self.pause, chance=lambda: 1.0
        )

    async def pause(self, seconds):
        self.pauses.append(seconds)
        await self.may_go_on.wait()
        await asyncio.sleep(0)

    def build_limiter(self, *, average=100, burst=8):
        return self.store.build_limiter(Limit(name="a", average=average, burst=burst), "shop/cart")

    async def close(self):
        self.store._task.cancel()
        await asyncio.gather(self.store._task, return_exceptions=True)


@pytest.fixture
async def world():
    world = World()
    yield world
    await world.close()


async def turn():
    """Let everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def send(limiter, source="a"):
    """Send a request as the middleware does; return whether it is admitted."""
    wait_s = limiter.take(source)
    if wait_s == ASK:
        wait_s = await limiter.ask(source)
    return wait_s <= limiter.longest_wait_s


async def test_requests_of_one_turn_are_one_batch(world):
    limiter = world.build_limiter()
    await turn()
    assert await asyncio.gather(*(send(limiter, str(number)) for number in range(5))) == [True] * 5
    assert world.link.asked == [(5, True)]
    assert world.store.count_nodes() == 3


async def test_no_more_are_admitted_than_the_burst(world):
    limiter = world.build_limiter(burst=8)
    answers = await asyncio.gather(*(send(limiter) for _ in range(20)))
    assert answers.count(True) == 8


async def test_a_worker_sends_a_heartbeat_every_second_without_traffic(world):
    world.build_limiter()
    await turn()
    for _ in range(3):
        world.node.pass_time(HEARTBEAT_S)
        await turn()
    assert world.link.asked == [(0, True)] * 3


async def test_unused_tokens_are_returned(world):
    limiter = world.build_limiter(average=1000, burst=1000)
    for _ in range(20):
        assert await send(limiter)
        await turn()
    world.node.pass_time(1.1)
    await turn()
    tokens = dict(
        sample for family in world.store.collect_metrics() for sample in family.samples if "tokens" in family.name
    )
    assert tokens["granted",] - tokens["returned",] == 20


async def test_while_redis_is_away_each_node_limits_by_its_share_and_says_so(world, caplog):
    limiter = world.build_limiter(burst=9)
    assert await send(limiter)
    world.link.failure = "no answer within 0.1 s"
    world.may_go_on.clear()
    with caplog.at_level(logging.INFO):
        assert await send(limiter)  # waits for the answer that does not come
        admitted = [await send(limiter) for _ in range(10)].count(True)
    assert admitted == 2  # a third of the burst, of which the first one has taken one
    assert world.store.book.is_away
    assert [record.getMessage() for record in caplog.records] == [
        "Redis is away: no answer within 0.1 s; each node enforces its share of the limits (nodes: 3)"
    ]
    values = read_metrics(world.store)
    assert (values["maesh_ratelimit_redis_workers", "away"], values["maesh_ratelimit_local_decisions_total",]) == (
        1,
        11,
    )


async def test_an_error_in_the_store_itself_counts_as_redis_being_away(world, caplog, monkeypatch):
    limiter = world.build_limiter(burst=9)
    assert await send(limiter)
    world.may_go_on.clear()

    async def ask(questions, *, is_heartbeat):
        raise RuntimeError("no\x1b[31m")

    monkeypatch.setattr(world.link, "ask", ask)
    with caplog.at_level(logging.INFO):
        assert [await send(limiter, str(number)) for number in range(3)] == [True] * 3
    assert world.store.book.is_away
    assert r"Redis is away: unexpected RuntimeError: 'no\x1b[31m'" in caplog.text
    monkeypatch.undo()
    world.may_go_on.set()
    await turn()
    assert not world.store.book.is_away


async def test_redis_is_used_again_when_it_answers_and_pauses_grow_until_then(world, caplog):
    world.link.failure = "Connection refused"
    limiter = world.build_limiter()
    for _ in range(30):
        await turn()
    assert world.pauses[:3] == [0.1, 0.2, 0.4]
    assert max(world.pauses) == LONGEST_PAUSE_S
    world.link.failure = ""
    with caplog.at_level(logging.INFO):
        await turn()
    assert "answers again" in caplog.text
    assert not world.store.book.is_away
    assert await send(limiter)
    assert world.link.asked[-1][0] == 1


async def test_pauses_go_on_growing_while_connections_do_not_last(world):
    world.build_limiter()
    for lasting_s in (0.0, 0.0, 0.0, 6.0):
        await turn()
        world.node.pass_time(lasting_s)
        world.link.failure = "reset"
        world.node.pass_time(HEARTBEAT_S)
        while not world.store.book.is_away:  # noqa: ASYNC110 - nothing waits for time
            await asyncio.sleep(0)
        world.link.failure = ""
    await turn()
    assert [pause for pause in world.pauses if pause >= 0.1] == [0.1, 0.2, 0.4, 0.1]


async def test_requests_that_wait_for_the_first_connection_are_decided_by_redis(world):
    world.link.gate.clear()
    limiter = world.build_limiter(burst=2)
    waiting = [asyncio.ensure_future(send(limiter)) for _ in range(4)]
    await turn()
    assert not any(each.done() for each in waiting)
    world.link.gate.set()
    assert await asyncio.gather(*waiting) == [True, True, False, False]


async def test_the_number_of_nodes_is_the_settings_until_redis_tells_one_and_workers_share_it():
    world = World(nodes=7)
    assert world.store.count_nodes() == 7
    world.build_limiter()
    await turn()
    assert world.store.count_nodes() == 3
    other = RedisStore(FakeLink(), world.node.get_worker(1), NodeStore(BucketTable(world.node)), nodes=7)
    assert other.count_nodes() == 3
    await world.close()


async def test_a_store_that_no_limit_uses_does_not_connect(world):
    assert read_metrics(world.store)["maesh_ratelimit_redis_workers", "connected"] == 0
    world.build_limiter()
    assert read_metrics(world.store)["maesh_ratelimit_redis_workers", "connected"] == 0, "it has not connected yet"
    await turn()
    assert read_metrics(world.store)["maesh_ratelimit_redis_workers", "connected"] == 1


async def test_a_client_that_leaves_while_it_waits_costs_other_clients_nothing(world):
    world.link.gate.clear()
    limiter = world.build_limiter(burst=1)
    leaving = asyncio.ensure_future(send(limiter))
    await turn()
    leaving.cancel()
    await turn()
    world.link.gate.set()
    assert await send(limiter)


async def test_a_token_that_is_given_back_is_used_again(world):
    limiter = world.build_limiter(burst=1)
    assert await send(limiter)
    limiter.give_back("a")
    assert await send(limiter)
    assert not await send(limiter)


async def test_long_sources_are_limited_and_hashed(world):
    limiter = world.build_limiter(burst=5)
    source = b"x" * 100_000
    assert [await send(limiter, source) for _ in range(20)].count(True) == 5
    assert all(len(key) <= 64 for key in limiter._leases)


def read_metrics(store):
    return {(family.name, *labels): value for family in store.collect_metrics() for labels, value in family.samples}


async def test_the_readme_lists_the_metrics_with_their_labels(world):
    world.build_limiter()
    readme = README.read_text()
    rows = re.findall(r"^\| `(maesh_\w+)` \| (?:`(\w+)`: ([^|]*) )?\|", readme, re.MULTILINE)
    listed = {name: (label, set(re.findall(r"`(\w+)`", values))) for name, label, values in rows}
    served = {
        family.name: ("".join(family.labels), {label for labels, _ in family.samples for label in labels})
        for family in world.store.collect_metrics()
    }
    assert listed == served


async def test_headers_leave_out_a_limit_of_which_nothing_is_known(world):
    stores = {"node": NodeStore(BucketTable(world.node), time=world.node.read_time), "redis": world.store}
    hour = Limit(name="hour", average=100, burst=100, period_s=3600.0, store="redis")
    for others, shown in (((Limit(name="default", average=1, burst=1),), [b'"default";r=1;t=0']), ((), [])):
        settings = ServiceLimits(limits=(*others, hour), shows_headers=True)
        limit = RateLimitFactory(world.node, stores).build_middleware(settings, "shop/cart")
        answered = FakeExchange(client_address="10.0.0.1")
        limit.on_response(answered)
        assert answered.response_headers.get_all(b"RateLimit") == shown
        assert answered.response_headers.get(b"RateLimit-Policy").endswith(b'"hour";q=100;w=3600')
