"""Each attempt is counted at its server, and each request at its branch; over HTTP/1."""

from maesh_core.model.configuration import HttpBranch, HttpRouter, Part, Section, Server, Service
from maesh_core.model.matches import HttpMatch
from maesh_core.proxy.http.answers import (
    NOT_CONNECTED,
)

from .counted_requests import EJECTED, FIRST, SECOND, describe_answer
from .middleware_doubles import BUSY, GET, OK, Retry, ask


async def test_a_retry_counts_each_attempt_at_its_server(open_world, observe):
    async with open_world(middlewares=[Retry()], servers=2) as world:
        observed = observe(world)
        _, first = await ask(world)
        world.advance(0.5)
        first.send(BUSY)
        second = await world.accept()
        world.advance(0.25)
        second.send(OK)
        observed.expect_one(
            attempts=2,
            server=SECOND,
            sent_bytes=2,
            upstream_s=0.25,
            duration_s=0.75,
            outcomes={(FIRST, "error"): 1, (SECOND, "response"): 1},
        )


async def test_a_retry_that_fails_has_no_time_of_a_response(open_world, observe):
    async with open_world(middlewares=[Retry()], servers=2) as world:
        observed = observe(world)
        _, first = await ask(world)
        world.advance(0.5)
        first.send(BUSY)
        await world.refuse()
        third = await world.accept()
        third.lose()
        await world.settle()
        while world.connects:
            await world.refuse()
        (record,) = observed.records
        assert (record.status, record.upstream_s) == (502, None)


async def test_a_retry_without_another_server_is_no_attempt(open_world, observe):
    class RestrictedRetry(Retry):
        def on_attempt_failed(self, exchange, error):
            exchange.allowed_servers = frozenset()
            return True

    async with open_world(middlewares=[RestrictedRetry()], servers=2) as world:
        observed = observe(world)
        world.open_client().send(GET)
        await world.refuse()
        observed.expect_one(
            **describe_answer(502, NOT_CONNECTED),
            upstream_s=None,
            outcomes={(FIRST, "failure"): 1},
            others=EJECTED,
        )


async def test_attempts_at_an_address_are_kept_when_its_scheme_changes_and_end_with_the_server(world, observe):
    observed = observe(world)
    _, server = await ask(world)
    server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
    server.lose()
    await world.settle()
    for scheme, count in (("h2c", 1), ("http", 1)):
        world.scheme = scheme
        world.apply()
        counters = observed.read_counters()
        assert counters["maesh_server_attempts", FIRST, "response"] == count
        assert counters["maesh_server_failed_responses", FIRST] == count
    world.apply(servers=0)
    assert not any(name.startswith("maesh_server_") for name, *_ in observed.read_counters())


# --- splits


def split(world):
    """Route paths below /api to `b`, and all others by weight to `v1` and `v2`."""
    match = HttpMatch(paths=("/api(/.*)?",), methods=("GET",))
    branches = (HttpBranch(service="b", matches=(match,)), HttpBranch(service="split"))
    router = HttpRouter(entrypoint=5000, hosts=("a.test.maesh",), service="a", branches=branches)
    addresses = {"a": "10.0.2.1", "b": "10.0.2.2", "v1": "10.0.2.3", "v2": "10.0.2.4"}
    services = {name: Service(servers=(Server(address=address, port=80),)) for name, address in addresses.items()}
    services["split"] = Service(parts=(Part(service="v1", weight=2), Part(service="v2", weight=1)))
    section = Section(routers={"a": router}, services=services)
    world.handler.apply_table(world.handler.compile_table(section, middlewares={}, changed=None))


async def test_a_branch_that_matches_is_the_destination(world, observe):
    split(world)
    observed = observe(world)
    _, server = await ask(world, GET.replace(b"GET /", b"GET /api"))
    server.send(OK)
    observed.expect_one(destination="b", branch="b", server="10.0.2.2:80", sent_bytes=2)


async def test_parts_are_counted_by_their_weight(world, observe):
    split(world)
    observed = observe(world)
    for _ in range(6):
        client, server = await ask(world)
        server.send(OK.replace(b"Content", b"Connection: close\r\nContent"))
        await world.settle()
        client.lose()
    assert sorted(record.destination for record in observed.records) == ["v1"] * 4 + ["v2"] * 2
    counters = observed.read_counters()
    branches = {key[2:]: value for key, value in counters.items() if key[0] == "maesh_branch_requests"}
    assert branches == {("v1", "2xx"): 4, ("v2", "2xx"): 2}


async def test_a_path_that_is_ambiguous_is_answered_for_the_service(world, observe):
    split(world)
    observed = observe(world)
    world.open_client().send(GET.replace(b"GET /", b"GET /api/../x"))
    (record,) = observed.records
    assert (record.status, record.service, record.destination) == (403, "a", "a")
