"""Requests in, tokens, waits and refusals out; time stands still unless it is moved."""

import gc
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st
from maesh_ratelimit.buckets import BUCKETS, WAYS, BucketTable, build_key
from maesh_ratelimit.fields import build_policy_field, render_limit
from maesh_ratelimit.node_store import REMEMBERED_LENGTH, NodeStore
from maesh_ratelimit.proxy import RateLimitFactory
from maesh_ratelimit.settings import NODE_STORE, Limit, ServiceLimits

from maesh_core.plugin import Response
from maesh_testing import FakeExchange, FakeNode


def exchange(address="10.0.0.1", host=b"a", **headers):
    named = {name.encode(): value for name, value in headers.items()}
    return FakeExchange(client_address=address, host=host, headers=named)


def ask(limit, client):
    """Send a request of a client, whose address or header says who it is."""
    return limit.on_request(exchange(str(client), user=str(client).encode()))


class World:
    """A node with a clock."""

    def __init__(self):
        self.node = FakeNode()

    @property
    def now(self):
        return self.node.clock.now

    def start_worker(self, *, workers=1, slot=0, average=10, burst=5, period_s=1.0, source="ip", name="shop/cart"):
        self.node.workers = workers
        limit = Limit(name="default", average=average, burst=burst, period_s=period_s, sources=(source,))
        return self.build(BucketTable(self.node.get_worker(slot)), name, limit)

    def build(self, table, name, *limits, **options):
        """Build the middleware of a service, with these limits."""
        stores = {NODE_STORE: NodeStore(table, time=self.node.read_time)}
        return RateLimitFactory(self.node, stores).build_middleware(ServiceLimits(limits=limits, **options), name)

    def pass_time(self, seconds):
        self.node.pass_time(seconds)

    def count_admitted(self, limit, source="a", requests=100):
        """Send requests in one instant; count those that pass without waiting."""
        return sum(ask(limit, source) is None for _ in range(requests))


@pytest.fixture
def world():
    return World()


def get_buckets(limit):
    """Return the buckets of a middleware with one limit."""
    return limit._first.limiter


def read_headers(response):
    assert isinstance(response, Response)
    return dict(response.headers)


def test_a_burst_passes_then_one_waits_then_the_rest_is_refused(world):
    limit = world.start_worker()
    assert [ask(limit, "a") for _ in range(5)] == [None] * 5
    world.pass_time(0.06)
    assert ask(limit, "a") == pytest.approx(0.04, abs=1e-6)
    answer = ask(limit, "a")
    assert (answer.status, answer.reason) == (429, "too many requests")
    assert read_headers(answer) == {b"Retry-After": b"1", b"X-Retry-In": b"0.140s"}


def test_tokens_come_back_at_the_average_and_no_more_than_the_burst(world):
    limit = world.start_worker()
    assert world.count_admitted(limit) == 5
    world.pass_time(0.31)
    assert world.count_admitted(limit) == 3
    world.pass_time(1000)
    assert world.count_admitted(limit) == 5


def test_a_wait_is_half_the_time_between_tokens_at_most_and_half_a_second(world):
    quick, slow = world.start_worker(average=10, burst=1), world.start_worker(average=1, burst=1, period_s=60.0)
    assert [ask(limit, "a") for limit in (quick, slow)] == [None, None]
    world.pass_time(0.0499)
    assert isinstance(ask(quick, "a"), Response)
    world.pass_time(0.0002)
    assert ask(quick, "a") == pytest.approx(0.0499, abs=1e-6)
    world.pass_time(59.4)
    assert isinstance(ask(slow, "a"), Response)
    world.pass_time(0.1)
    assert ask(slow, "a") == pytest.approx(0.4499, abs=1e-4)


def test_clients_do_not_share_tokens_and_services_neither(world):
    limit, other = world.start_worker(), world.start_worker(name="shop/other")
    assert [world.count_admitted(limit, "a"), world.count_admitted(limit, "b"), world.count_admitted(other)] == [5] * 3


def test_workers_of_a_node_share_tokens_and_a_new_one_finds_them_spent(world):
    first, second = world.start_worker(), world.start_worker()
    assert [ask(worker, "a") for worker in (first, second, first, second, first)] == [None] * 5
    assert isinstance(ask(second, "a"), Response)
    assert isinstance(ask(world.start_worker(), "a"), Response)


def test_other_settings_are_another_limit(world):
    assert world.count_admitted(world.start_worker()) == 5
    assert world.count_admitted(world.start_worker(burst=6)) == 6


@pytest.mark.parametrize(("average", "burst", "period_s"), [(1, 10**9, 1e300), (10**9, 10**9, 1e-9), (1, 1, 1e-300)])
def test_no_numbers_are_too_large_or_too_small(world, average, burst, period_s):
    limit = world.start_worker(average=average, burst=burst, period_s=period_s)
    for _ in range(3):
        assert ask(limit, "a") is None or period_s == 1e300
        world.pass_time(1e-9)


@pytest.mark.parametrize(
    ("source", "same", "other"),
    [
        ("ip", exchange(host=b"b", user=b"x"), exchange("10.0.0.2")),
        ("host", exchange("10.0.0.2", user=b"x"), exchange(host=b"b")),
        ("header:user", exchange("10.0.0.2", b"b"), exchange(user=b"x")),
    ],
)
def test_what_makes_a_client_is_what_the_service_says(world, source, same, other):
    limit = world.start_worker(source=source, burst=1)
    assert limit.on_request(exchange()) is None
    assert limit.on_request(same).status == 429
    assert limit.on_request(other) is None


@pytest.mark.parametrize("jump_s", [-999.0, -60.0, 3600.0, 1e9])
def test_a_clock_that_jumps_locks_no_client_out_for_long(world, jump_s):
    limit = world.start_worker()
    world.count_admitted(limit)
    world.pass_time(jump_s)
    admitted = world.count_admitted(limit)
    assert admitted <= 5
    world.pass_time(0.11)
    assert world.count_admitted(limit) >= 1


@pytest.mark.slow
def test_many_clients_take_no_more_memory_than_the_table(world):
    limit = world.start_worker(source="header:user")
    for number in range(3 * BUCKETS):
        assert ask(limit, number) is None
    assert len(get_buckets(limit)._places) <= BUCKETS
    assert ask(limit, "x" * 100_000) is None
    assert all(len(source) <= REMEMBERED_LENGTH for source in get_buckets(limit)._places)


@pytest.mark.slow
def test_all_limits_together_remember_no_more_clients_than_there_are_buckets(world):
    table = BucketTable(world.node)
    each = Limit(name="default", average=10, burst=5, sources=("header:user",))
    limits = [world.build(table, f"shop/{number}", each) for number in range(3)]
    for number in range(BUCKETS):
        ask(limits[number % 3], number)
        ask(limits[number % 2], -number)
    assert sum(len(get_buckets(limit)._places) for limit in limits) <= BUCKETS


@pytest.mark.parametrize("source", ["ip", "host", "header:user"])
def test_a_limit_that_is_replaced_leaves_nothing_behind(world, source):
    limit = world.start_worker(source=source)
    ask(limit, "a")
    left = weakref.ref(get_buckets(limit)._remembered)
    gc.disable()
    try:
        del limit
        assert left() is None
    finally:
        gc.enable()


def test_long_sources_are_limited_all_the_same(world):
    assert world.count_admitted(world.start_worker(source="header:user"), "x" * 1000) == 5


def find_in_one_set(count):
    """Find keys that stand in one set of places."""
    keys = (key for number in range(10**7) if (key := build_key("a", str(number))) % 8192 == 5)
    return [next(keys) for _ in range(count)]


def test_a_full_set_of_places_gives_up_the_client_that_has_used_least(world):
    table, keys = BucketTable(world.node), find_in_one_set(WAYS + 1)
    for index, key in enumerate(keys[:WAYS]):
        table.times[table.find(key, world.now)] = world.now + 10 - index
    place = table.find(keys[WAYS], world.now)
    assert (table.keys[place], table.times[place]) == (keys[WAYS], world.now)
    assert keys[WAYS - 1] not in table.keys.tolist()
    assert all(key in table.keys.tolist() for key in keys[: WAYS - 1])


def test_a_worker_whose_place_was_given_to_another_client_does_not_spend_that_ones_tokens(world):
    limit = world.start_worker()
    ask(limit, "a")
    buckets = get_buckets(limit)
    place, key = buckets._places["a"]
    buckets._keys[place] = key + 8192
    assert world.count_admitted(limit) == 5
    assert buckets._keys[place] == key + 8192


@given(
    st.integers(1, 50),
    st.integers(1, 50),
    st.lists(st.tuples(st.floats(0, 0.5), st.integers(0, 2)), max_size=60),
)
def test_no_more_pass_in_any_time_than_the_average_and_the_burst_allow(average, burst, steps):
    world = World()
    workers = [world.start_worker(average=average, burst=burst) for _ in range(3)]
    start, admitted = world.now, 0
    for pause_s, number in steps:
        world.pass_time(pause_s)
        admitted += not isinstance(ask(workers[number], "a"), Response)
    assert admitted <= burst + average * (world.now - start) + 1


class Racing:
    """Memory in which another worker acts at one moment: at a read of one place."""

    def __init__(self, memory, place, act):
        self.memory, self.place, self.act = memory, place, act

    def __getitem__(self, place):
        value = self.memory[place]
        if place == self.place and self.act is not None:
            act, self.act = self.act, None
            act()
        return value

    def __setitem__(self, place, value):
        self.memory[place] = value


@pytest.mark.parametrize("moment", range(WAYS))
@pytest.mark.parametrize("taken_by_others", range(WAYS))
def test_workers_that_meet_a_client_in_one_instant_end_up_with_one_bucket(world, moment, taken_by_others):
    first, second = (world.start_worker(workers=2, slot=slot) for slot in range(2))
    buckets = get_buckets(first)
    start = build_key(buckets._name, "a") % 8192 * WAYS
    for place in range(start, start + taken_by_others):
        buckets._keys[place], buckets._times[place] = 77 + place, world.now + 60
    buckets._table.keys = Racing(buckets._keys, start + moment, lambda: ask(second, "a"))
    answers = [ask(worker, "a") for _ in range(20) for worker in (first, second)]
    key = build_key(buckets._name, "a")
    assert [buckets._keys[place] for place in range(start, start + WAYS)].count(key) == 1
    assert answers.count(None) <= 5


@pytest.mark.parametrize("burst", [5, 200])
def test_tokens_that_workers_lose_of_each_other_are_made_up_for(world, burst):
    workers = [world.start_worker(burst=burst, workers=2, slot=slot) for slot in range(2)]
    first, second = workers
    buckets = get_buckets(first)
    world.count_admitted(first, requests=burst + 10)
    place, answers = buckets._places["a"][0], []
    for _ in range(200):
        world.pass_time(0.1)
        buckets._times = Racing(get_buckets(second)._times, place, lambda: answers.append(ask(second, "a")))  # noqa: B023
        answers.append(ask(first, "a"))  # reads, and then the other takes the token too
        buckets._times = get_buckets(second)._times
        answers += [ask(worker, "a") for worker in workers * 2]
    assert 198 <= answers.count(None) <= 202


def limit_of(name="default", average=1, burst=1, *sources, **options):
    return Limit(name=name, average=average, burst=burst, sources=sources or ("ip",), **options)


def test_a_request_needs_a_token_of_each_limit(world):
    limits = (limit_of("a", 10, 3), limit_of("b", 1, 5, period_s=60.0))
    limit = world.build(BucketTable(world.node), "shop/cart", *limits)
    assert world.count_admitted(limit) == 3
    world.pass_time(1)
    assert world.count_admitted(limit) == 2
    assert read_headers(ask(limit, "a"))[b"Retry-After"] == b"59"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_limit_gets_its_token_back_if_another_one_refuses(world, workers):
    world.node.workers = workers
    first, second = limit_of("a", 1, 100, period_s=60.0), limit_of("b", 1, 1, period_s=3600.0)
    limit = world.build(BucketTable(world.node), "shop/cart", first, second)
    assert world.count_admitted(limit) == 1
    assert limit._limits[0].limiter.count_missing("a") == pytest.approx(1)


def test_of_several_limits_the_longest_wait_counts(world):
    limit = world.build(BucketTable(world.node), "shop/cart", limit_of("a", 10, 1), limit_of("b", 5, 1))
    assert ask(limit, "a") is None
    world.pass_time(0.12)
    assert ask(limit, "a") == pytest.approx(0.08, abs=1e-6)


def test_a_limit_of_a_path_leaves_other_paths_alone(world):
    limit = world.build(BucketTable(world.node), "shop/cart", limit_of("login", 1, 1, "ip", "path:/login"))
    answers = [limit.on_request(FakeExchange(target=target)) for target in (b"/login", b"/", b"/login/?x", b"/a")]
    assert [getattr(answer, "status", 0) for answer in answers] == [0, 0, 429, 0]


def test_a_client_is_its_account_or_else_its_address(world):
    world.node.accounts = {"10.0.0.1": "web@shop", "10.0.0.2": "web@shop"}
    limit = world.start_worker(source="account", burst=1)
    answers = [limit.on_request(exchange(f"10.0.0.{number}")) for number in (1, 2, 3, 4, 3)]
    assert [getattr(answer, "status", 0) for answer in answers] == [0, 429, 0, 0, 429]


def test_an_unknown_source_or_store_is_an_error_and_not_another_limit(world):
    for limit in (limit_of("a", 1, 1, "planet"), limit_of("a", store="mars")):
        with pytest.raises(ValueError, match="this proxy"):
            world.build(BucketTable(world.node), "shop/cart", limit)


def test_headers_say_what_is_left_and_when_all_of_it_is_back(world):
    limits = (limit_of("default", 10, 20), limit_of("hour", 100, 100, period_s=3600.0))
    limit = world.build(BucketTable(world.node), "shop/cart", *limits, shows_headers=True)
    answered = exchange()
    for _ in range(3):
        assert limit.on_request(answered) is None
    answered.response_headers.set(b"RateLimit", b'"server";r=1')
    limit.on_response(answered)
    assert answered.response_headers.get_all(b"RateLimit") == [
        b'"server";r=1',
        b'"default";r=17;t=1, "hour";r=97;t=108',
    ]
    assert answered.response_headers.get(b"RateLimit-Policy") == b'"default";q=20;w=2, "hour";q=100;w=3600'


@pytest.mark.parametrize("shows_headers", [True, False])
def test_a_refusal_has_the_headers_only_if_they_are_asked_for(world, shows_headers):
    limit = world.build(BucketTable(world.node), "shop/cart", limit_of(), shows_headers=shows_headers)
    assert ask(limit, "a") is None
    headers = read_headers(ask(limit, "a"))
    expected = {b"RateLimit-Policy": b'"default";q=1;w=1', b"RateLimit": b'"default";r=0;t=1'}
    assert {name: value for name, value in headers.items() if name in expected} == (expected if shows_headers else {})


def test_numbers_of_headers_never_leave_their_range():
    huge = limit_of("a", 1, 10**9, period_s=1e300)
    assert build_policy_field([huge]) == b'"a";q=1000000000;w=999999999999999'
    assert render_limit(huge, 2e9) == b'"a";r=0;t=999999999999999'
    assert render_limit(limit_of("a", 10**9, 5, period_s=1e-9), 0.0) == b'"a";r=5;t=0'
