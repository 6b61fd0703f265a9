"""Routes with rules: what a request meets that a rule matches, or none, and when rules or servers change."""

import pytest

from maesh_core.model.configuration import (
    Answer,
    HttpOrder,
    HttpRouter,
    HttpRule,
    HttpRules,
    Part,
    Section,
    Server,
    Service,
)
from maesh_core.model.matches import HeaderMatch, HttpMatch

from .exchanges.middleware_doubles import OK, get_status

ENTRYPOINT, HOST = 5000, "a.test.maesh"


class Marker:
    """Notes the destination of each request that it sees, and of each exchange that it judges."""

    def __init__(self, *, stays=True):
        self.seen, self.judged, self.stays = [], [], stays

    def on_request(self, exchange):
        self.seen.append(exchange.destination)

    def is_still_allowed(self, connection):
        self.judged.append(connection.destination if hasattr(connection, "destination") else connection.service)
        return self.stays


def build_rules(*pairs, **fields):
    """Build rules of prefixes and `HttpRule`s."""
    return HttpRules(
        rules=tuple(rule for _, rule in pairs),
        order=tuple(
            HttpOrder(rule=index, match=HttpMatch(path_prefix=prefix)) for index, (prefix, _) in enumerate(pairs)
        ),
        **fields,
    )


def build_service(*numbers, **fields):
    return Service(servers=tuple(Server(address=f"10.0.1.{number}", port=80) for number in numbers), **fields)


def apply(world, services, middlewares=None, *, changed=None, **router):
    section = Section(routers={"x/y:80": HttpRouter(entrypoint=ENTRYPOINT, hosts=(HOST,), **router)}, services=services)
    table = world.handler.compile_table(section, middlewares=middlewares or {}, changed=changed)
    world.handler.apply_table(table)
    return table.routes["x/y:80"]


def send(world, path="/", address="10.0.0.9"):
    client = world.open_client(address)
    client.send(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
    return client


async def serve(world, client):
    """Answer the request at the server that gets it; return its number."""
    await world.settle()
    number = int(world.connects[0][1].rpartition(".")[2])
    server = world.let_connect()
    await world.settle()
    server.send(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert get_status(client) == 200
    return number


async def refuse(world, client):
    """Return the status and the reason of the mesh's answer."""
    await world.settle()
    assert not world.connects
    answer = client.take()
    return int(answer.split(b" ", 2)[1]), answer.partition(b"X-Maesh-Reason: ")[2].partition(b"\r")[0].decode()


async def test_a_request_goes_to_the_service_of_its_rule_and_without_a_rule_to_none(open_world):
    async with open_world() as world:
        rules = build_rules(("/a", HttpRule(service="r1")), ("/b", HttpRule(service="r2")))
        apply(world, {"r1": build_service(1), "r2": build_service(2)}, rules=rules)
        assert await serve(world, send(world, "/b/c?x")) == 2
        assert await serve(world, send(world, "/a")) == 1
        assert await refuse(world, send(world, "/c")) == (404, "no rule of a route matches the request")
        assert await refuse(world, send(world, "/a/../b")) == (403, "the path is ambiguous")
        apply(world, {}, rules=HttpRules(reason="no route is valid"))
        assert await refuse(world, send(world, "/a")) == (404, "no route is valid")


async def test_a_request_too_large_for_the_patterns_of_its_rules_is_refused(open_world):
    matches = [HttpMatch(path_prefix="/a", headers=(HeaderMatch(name="x", pattern=f"{n}.*b"),)) for n in range(100)]
    async with open_world() as world:
        order = (*(HttpOrder(rule=0, match=each) for each in matches), HttpOrder(rule=0, match=HttpMatch()))
        rules = HttpRules(rules=(HttpRule(service="r1"),), order=order)
        apply(world, {"r1": build_service(1)}, rules=rules)
        client = world.open_client()
        client.send(f"GET /a HTTP/1.1\r\nHost: {HOST}\r\nX: {'a' * 30_000}\r\n\r\n".encode())
        assert await refuse(world, client) == (431, "the request is too large for the patterns of its rules")
        assert await serve(world, send(world, "/a")) == 1


async def test_each_rule_has_middlewares_of_its_own(open_world):
    one, other = Marker(), Marker()
    async with open_world() as world:
        rules = build_rules(
            ("/a", HttpRule(service="r1", middlewares=("m1",))), ("/b", HttpRule(service="r1", middlewares=("m2",)))
        )
        apply(world, {"r1": build_service(1)}, {"m1": one, "m2": other}, rules=rules)
        await serve(world, send(world, "/b"))
    assert (one.seen, other.seen) == ([], ["r1"])


async def test_a_service_without_servers_answers_as_it_says_after_the_middlewares(open_world):
    marker = Marker()
    async with open_world() as world:
        rules = build_rules(("/a", HttpRule(service="r1", middlewares=("m",))), ("/b", HttpRule(service="r2")))
        services = {"r1": Service(answer=Answer(status=500, reason="no such backend", grpc_status=14)), "r2": Service()}
        apply(world, services, {"m": marker}, rules=rules)
        assert await refuse(world, send(world, "/a")) == (500, "no such backend")
        assert await refuse(world, send(world, "/b")) == (503, "the service has no usable server")
    assert marker.seen == ["r1"]


async def test_the_share_of_a_part_is_answered_as_the_part_says(open_world):
    async with open_world() as world:
        parts = (Part(service="r/ok", weight=1), Part(service="r/bad", weight=1), Part(service="r/empty", weight=1))
        services = {
            "r": Service(parts=parts),
            "r/ok": build_service(1),
            "r/bad": Service(answer=Answer(status=500)),
            "r/empty": Service(),
        }
        apply(world, services, rules=build_rules(("/a", HttpRule(service="r"))))
        found = []
        for _ in range(6):
            client = send(world, "/a")
            await world.settle()
            if world.connects:
                await serve(world, client)
                found.append(200)
            else:
                found.append(get_status(client))
    assert sorted(found) == [200, 200, 500, 500, 503, 503]


async def test_a_part_with_middlewares_uses_these_and_is_counted_as_itself(open_world):
    whole, part = Marker(), Marker()
    async with open_world() as world:
        parts = (Part(service="r/a", weight=1, middlewares=("m", "p")), Part(service="r/b", weight=1))
        services = {"r": Service(parts=parts), "r/a": build_service(1), "r/b": build_service(2)}
        rules = build_rules(("/a", HttpRule(service="r", middlewares=("m",))))
        route = apply(world, services, {"m": whole, "p": part}, rules=rules)
        numbers = [await serve(world, send(world, "/a")) for _ in range(4)]
    assert sorted(numbers) == [1, 1, 2, 2]
    assert (whole.seen, part.seen) == (["r"] * 4, ["r"] * 2)
    assert {key: each.durations.total for key, each in route.counters.branches.items()} == {"r/a": 2, "r/b": 2}


def read_rules(world, noun="requests"):
    families = [each for each in world.handler.collect_metrics() if each.name == f"maesh_rule_{noun}"]
    return {labels[1:]: value for family in families for labels, value in family.samples}


async def test_requests_are_counted_by_rule_also_if_rules_share_a_backend(open_world):
    async with open_world() as world:
        parts = (Part(service="r/b", weight=1, middlewares=()),)
        services = {"r1": Service(parts=parts), "r2": Service(parts=parts), "r/b": build_service(1), "r3": Service()}
        rules = build_rules(*((f"/{key}", HttpRule(service=key)) for key in ("r1", "r2", "r3")))
        apply(world, services, rules=rules)
        for path in ("/r1", "/r2", "/r2"):
            await serve(world, send(world, path))
        await world.settle()
        assert get_status(send(world, "/r3")) == 503
        assert get_status(send(world, "/none")) == 404
        assert read_rules(world) == {("r1", "2xx"): 1, ("r2", "2xx"): 2, ("r3", "5xx"): 1}
        assert read_rules(world, "failures") == {("r1",): 0, ("r2",): 0, ("r3",): 1}
        counted = {key: sum(each.counts) for key, each in read_rules(world, "request_duration_seconds").items()}
        assert counted == {("r1",): 1, ("r2",): 2, ("r3",): 1}


async def test_a_rule_keeps_its_counts_while_it_exists(open_world):
    async with open_world() as world:
        services = {"r1": build_service(1), "r2": build_service(2)}
        both = build_rules(*((f"/{key}", HttpRule(service=key)) for key in services))
        apply(world, services, rules=both)
        await serve(world, send(world, "/r1"))
        await serve(world, send(world, "/r2"))
        only = build_rules(("/r2", HttpRule(service="r2")))
        for _ in range(2):  # the counts of the former rules are kept until the next change
            apply(world, services, rules=only)
        assert read_rules(world) == {("r2", "2xx"): 1}


async def test_clients_of_a_namespace_use_its_rules_and_others_the_fallback(open_world):
    async with open_world() as world:
        apply(
            world,
            {"c": build_service(1), "f": build_service(2)},
            consumers={"test": build_rules(("/a", HttpRule(service="c")))},
            fallback="f",
        )
        world.handler.current.namespaces = {"10.0.0.8": "test", "10.0.0.7": "other"}
        assert await serve(world, send(world, "/a", "10.0.0.8")) == 1
        assert await refuse(world, send(world, "/b", "10.0.0.8")) == (404, "no rule of a route matches the request")
        assert await serve(world, send(world, "/a", "10.0.0.7")) == 2
        assert await serve(world, send(world, "/b")) == 2


@pytest.mark.parametrize("stays", [True, False])
async def test_an_exchange_in_progress_is_judged_by_the_rule_that_it_would_have_now(open_world, stays):
    former, judge, other = Marker(), Marker(stays=stays), Marker(stays=False)
    async with open_world() as world:
        rules = build_rules(("/a", HttpRule(service="r1", middlewares=("m",))))
        apply(world, {"r1": build_service(1)}, {"m": former}, rules=rules)
        client = send(world, "/a")
        await world.settle()
        server = world.let_connect()
        await world.settle()
        rules = build_rules(
            ("/b", HttpRule(service="r3", middlewares=("o",))), ("/a", HttpRule(service="r2", middlewares=("j",)))
        )
        services = {"r2": build_service(1), "r3": build_service(1)}
        apply(world, services, {"j": judge, "o": other}, rules=rules)
        await world.settle()
        if stays:
            server.send(OK)
            client.expect(OK)
        else:
            assert get_status(client) == 403
    assert judge.judged == ["r2"]
    assert former.judged == other.judged == []


async def test_an_exchange_in_progress_whose_request_no_rule_matches_any_more_ends(open_world):
    async with open_world() as world:
        rules = build_rules(("/a", HttpRule(service="r1", middlewares=("m",))))
        apply(world, {"r1": build_service(1)}, {"m": Marker()}, rules=rules)
        client = send(world, "/a")
        await world.settle()
        world.let_connect()
        await world.settle()
        apply(world, {"r1": build_service(1)}, rules=HttpRules())
        await world.settle()
        assert get_status(client) == 403


async def test_a_change_of_servers_compiles_no_match_again(open_world):
    async with open_world() as world:
        rules = build_rules(("/a", HttpRule(service="r1")))
        before = apply(world, {"r1": build_service(1)}, rules=rules, consumers={"test": rules})
        after = apply(
            world, {"r1": build_service(2)}, rules=rules, consumers={"test": rules}, changed=frozenset({"r1"})
        )
        assert after is not before
        assert after.rules.order is before.rules.order
        assert after.consumers["test"].order is before.consumers["test"].order
        assert await serve(world, send(world, "/a")) == 2
