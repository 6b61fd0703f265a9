"""The proxy's parts: a configuration taken, a table compiled, one change, a route found, a request carried.

What a request costs is that of the engine alone, without the kernel's part (engine.py).
"""

import asyncio
import time
from itertools import count, cycle

import pytest
from access import THREE
from engine import Engine, build_request
from maesh_ratelimit.buckets import BucketTable
from maesh_ratelimit.node_store import NodeStore
from maesh_ratelimit.redis_store.leases import LeaseBook
from maesh_ratelimit.redis_store.limiter import LocalShare, RedisLimiter
from maesh_ratelimit.redis_store.script import Grant
from maesh_ratelimit.settings import Limit
from policies import POLICIES, build_policies, build_policy_request

from maesh_core.model.configuration import HttpOrder, HttpRouter, Section, Server, Service
from maesh_core.model.matches import HeaderMatch, HttpMatch, QueryMatch
from maesh_core.model.messages import Update, parse_update, render_update
from maesh_core.proxy.balancing.kinds import BalancerKinds
from maesh_core.proxy.http.handler import HttpHandler
from maesh_core.proxy.http.messages.request_parsing import parse_request_head
from maesh_core.proxy.http.rules import CompiledOrder
from maesh_core.proxy.network.clock import Clock
from maesh_core.proxy.routing.configuration import RoutingConfiguration
from maesh_core.settings import ProxySettings
from maesh_testing import FakeNode

SERVICES, SERVERS = 5000, 10


def build_key(number):
    return f"team/service-{number}:80"


def build_service(number, *, first=0):
    return Service(
        servers=tuple(
            Server(address=f"127.{100 + first % 100}.{number // 250}.{index}", port=8080) for index in range(SERVERS)
        )
    )


@pytest.fixture(scope="module")
def whole():
    """Build the configuration of all services."""
    routers = {
        build_key(number): HttpRouter(
            entrypoint=5000, hosts=(f"service-{number}.team.maesh",), service=build_key(number)
        )
        for number in range(SERVICES)
    }
    services = {build_key(number): build_service(number) for number in range(SERVICES)}
    return Update(revision="a.1", full=True, sections={"http": Section(routers=routers, services=services)})


@pytest.fixture
async def configuration():
    """Start a proxy's configuration, inside an event loop as in the proxy."""
    handler = HttpHandler(ProxySettings(), Clock(asyncio.get_running_loop()))
    yield RoutingConfiguration({"http": handler}, {}, guards=(), balancers=BalancerKinds())
    handler.abort()
    handler.environment.clock.close()


@pytest.fixture
async def loaded(configuration, whole):
    configuration.apply_update(whole, since=None)
    return configuration


def test_parse_the_configuration_of_5000_services(benchmark, whole):
    body = render_update(whole)
    update = benchmark(parse_update, body, {"http": HttpRouter})
    assert len(update.sections["http"].routers) == SERVICES


async def test_put_the_configuration_of_5000_services_in_force(benchmark, configuration, whole):
    benchmark.pedantic(configuration.apply_update, (whole,), {"since": None}, rounds=5)
    assert configuration.revision == "a.1"


async def test_put_one_change_among_5000_services_in_force(benchmark, loaded):
    numbers = count(2)

    def apply():
        before, number = loaded.revision, next(numbers)
        section = Section(services={build_key(7): build_service(7, first=number)})
        loaded.apply_update(Update(revision=f"a.{number}", full=False, sections={"http": section}), since=before)

    benchmark.pedantic(apply, rounds=100)
    assert loaded.revision == "a.101"


async def test_find_a_route_among_5000(benchmark, loaded):
    table = loaded._handlers["http"].current.table
    assert benchmark(table.find, 5000, b"service-4999.team.maesh") is not None
    assert table.find(5000, b"service-5000.team.maesh") is None


@pytest.fixture
async def engine():
    made = Engine()
    yield made
    made.close()


async def test_carry_a_request_like_the_one_before(benchmark, engine):
    carry = engine.connect()
    benchmark(carry, build_request())
    assert engine.count_answered() > 0


def carry_new(benchmark, engine, build=build_request):
    """Carry requests whose heads differ, and end the engine."""
    carry, requests = engine.connect(), cycle([build(number) for number in range(10_000)])
    benchmark(lambda: carry(next(requests)))
    assert engine.count_answered() > 0
    engine.close()


async def test_carry_a_request_with_an_ordinary_head_that_is_new(benchmark):
    carry_new(benchmark, Engine())


async def test_carry_a_new_head_through_a_split(benchmark):
    carry_new(benchmark, Engine(splits=[()]))


@pytest.mark.parametrize("matches", [[HttpMatch()], [THREE, HttpMatch()]], ids=["without conditions", "with three"])
async def test_carry_a_new_head_through_a_rule(benchmark, matches):
    carry_new(benchmark, Engine(rules=matches))


@pytest.mark.parametrize("policy", build_policies().values(), ids=POLICIES)
async def test_carry_a_new_head_through_a_policy(benchmark, policy):
    carry_new(benchmark, Engine([policy]), build_policy_request)


CONDITIONS = HttpMatch(
    path_prefix="/v2",
    headers=(HeaderMatch(name="version", value="two"),),
    queries=(QueryMatch(name="color", value="blue"),),
)
RULES = {
    "one without conditions": [HttpMatch()],
    "one with three conditions": [CONDITIONS],
    "128 prefixes": [HttpMatch(path_prefix=f"/a{number}") for number in range(127)] + [HttpMatch(path_prefix="/v2")],
}
HOSTILE = {
    "a query of 16 KB": (b"/v2?" + b"&".join(b"%x" % number for number in range(3500)), b""),
    "a head of 60 KB": (b"/v2", b"".join(b"x-%d: %s\r\n" % (number, b"1" * 600) for number in range(90))),
}


@pytest.mark.parametrize("matches", RULES.values(), ids=RULES)
def test_choose_the_rule_of_a_request(benchmark, matches):
    order = CompiledOrder([HttpOrder(rule=index, match=match) for index, match in enumerate(matches)])
    head = parse_request_head(
        b"GET /v2/things/7?animal=whale&color=blue HTTP/1.1\r\nHost: echo.default.maesh\r\nUser-Agent: curl/8.1\r\n"
        b"Accept: */*\r\nAccept-Encoding: gzip, br\r\nX-Request-Id: 3f2b1c77-aaaa-bbbb-cccc-0123456789ab\r\n"
        b"Cookie: a=b; c=d; session=1234567890\r\nVersion: two\r\n\r\n"
    )
    assert benchmark(order._find, head) == len(matches) - 1  # `find` would keep the answer


@pytest.mark.parametrize(("target", "fields"), HOSTILE.values(), ids=HOSTILE)
def test_choose_the_rule_of_a_large_request_among_128_with_32_conditions(benchmark, target, fields):
    match = HttpMatch(
        path_prefix="/v2",
        headers=tuple(HeaderMatch(name=f"x-{number}", value="2") for number in range(16)),
        queries=tuple(QueryMatch(name=f"q{number}", value="2") for number in range(16)),
    )
    order = CompiledOrder([HttpOrder(rule=index, match=match) for index in range(128)])
    head = parse_request_head(b"GET %b HTTP/1.1\r\nHost: a.b.maesh\r\n%b\r\n" % (target, fields))
    assert benchmark(order._find, head) == -1


@pytest.mark.parametrize("store", ["node", "redis"])
async def test_take_a_token(benchmark, store):
    """Of a bucket in the node's memory, or of those that a worker has leased from Redis."""
    node = FakeNode()
    local = NodeStore(BucketTable(node))
    limit = Limit(name="default", average=10**9, burst=10**9)
    if store == "node":
        limiter = local.build_limiter(limit, "team/service")
    else:
        book = LeaseBook(lambda: None, lambda: None)
        limiter = RedisLimiter(limit, "team/service", book, LocalShare(local, lambda: 1), time.monotonic)
        asked = asyncio.ensure_future(limiter.ask("10.0.0.1"))
        await asyncio.sleep(0)
        batch = book.build_batch(time.monotonic())
        book.accept(batch, [Grant(10**9, 0.0, 0.0, 10**9)], time.monotonic())
        await asked
    assert benchmark(limiter.take, "10.0.0.1") <= 0
