"""Which server a request goes to when a middleware prefers one: against weights, health, access and parts."""

import pytest

from maesh_core.model.configuration import Answer, HttpRule, Part
from maesh_core.plugin_system.interfaces import BackendChoice

from ..test_rule_compiling import apply, build_rules, build_service, send, serve
from .middleware_doubles import GET, ask


def choose(number, part=""):
    return BackendChoice(part=part, server=(f"10.0.1.{number}", 80))


class Chooser:
    """Chooses as it was told to, and keeps what it was given and what the exchange said."""

    def __init__(self, choice=None, *, preferred=None, allowed=None, repeats=False):
        self.choice, self.preferred, self.allowed, self.repeats = choice, preferred, allowed, repeats
        self.backends, self.seen = [], []

    def choose_backend(self, head, backends):
        self.backends.append(backends)
        if isinstance(self.choice, Exception):
            raise self.choice
        return self.choice

    def on_request(self, exchange):
        self.seen.append((exchange.part, exchange.preferred_server))
        if self.preferred is not None:
            exchange.preferred_server = (f"10.0.1.{self.preferred}", 80)
        exchange.allowed_servers = self.allowed

    def on_attempt_failed(self, exchange, error):
        return self.repeats

    def on_finished(self, exchange):
        self.seen.append((exchange.part, exchange.server))


async def send_and_serve(world, times=1):
    return [await serve(world, send(world)) for _ in range(times)]


@pytest.mark.parametrize("servers", [1, 3])
async def test_every_request_goes_to_the_chosen_server(open_world, servers):
    chooser = Chooser(choose(1))
    async with open_world(middlewares=[chooser], servers=servers) as world:
        assert await send_and_serve(world, 3) == [1, 1, 1]
    assert chooser.seen[:2] == [("", ("10.0.1.1", 80)), ("", ("10.0.1.1", 80))]
    assert chooser.backends[0] == tuple(choose(number + 1) for number in range(servers))
    assert chooser.backends[0] is chooser.backends[1]


async def test_backends_are_new_when_the_servers_have_changed(open_world):
    chooser = Chooser()
    async with open_world(middlewares=[chooser], servers=1) as world:
        await send_and_serve(world)
        world.apply(middlewares=[chooser], servers=2)
        await send_and_serve(world)
    assert [len(each) for each in chooser.backends] == [1, 2]


@pytest.mark.parametrize(
    "choice", [None, choose(9), choose(1, "x"), ("10.0.1.1", 80), True, ValueError("no")], ids=repr
)
async def test_without_a_choice_or_with_a_wrong_one_the_balancer_picks(open_world, choice):
    async with open_world(middlewares=[Chooser(choice)], servers=2) as world:
        assert await send_and_serve(world, 4) == [1, 2, 1, 2]


async def test_the_outermost_choice_decides(open_world):
    inner = Chooser(choose(2))
    async with open_world(middlewares=[Chooser(choose(1)), inner], servers=2) as world:
        assert await send_and_serve(world, 2) == [1, 1]
        assert not inner.backends
    async with open_world(middlewares=[Chooser(), inner], servers=2) as world:
        assert await send_and_serve(world, 2) == [2, 2]


async def test_a_server_that_is_set_aside_or_refused_is_not_used(open_world):
    chooser = Chooser(choose(1), repeats=True)
    async with open_world(middlewares=[chooser], servers=2) as world:
        client = send(world)
        assert await world.refuse() == "10.0.1.1"
        server = await world.accept()
        client.lose()
        await world.settle()
        assert server.transport.name == "server 10.0.1.2"
        assert await send_and_serve(world) == [2]
        assert chooser.seen[-2:] == [("", None), ("", ("10.0.1.2", 80))]
        world.apply(middlewares=[Chooser(choose(1), allowed={("10.0.1.2", 80)})], servers=2)
        assert await send_and_serve(world, 2) == [2, 2]


async def test_a_server_whose_pause_is_over_gets_a_trial(open_world):
    async with open_world(middlewares=[Chooser(choose(1))], servers=2) as world:
        client, _ = send(world), await world.refuse()
        world.advance(60)
        assert await send_and_serve(world) == [1]
        client.lose()


async def test_a_middleware_prefers_a_server_of_the_first_attempt_only(open_world):
    chooser = Chooser(preferred=2, repeats=True)
    async with open_world(middlewares=[chooser], servers=3) as world:
        client = send(world)
        assert await world.refuse() == "10.0.1.2"
        await world.accept()
        assert world.servers[-1].transport.name == "server 10.0.1.1"
        client.lose()
        await world.settle()
        world.apply(middlewares=[Chooser(preferred=9)], servers=1)
        assert await send_and_serve(world) == [1]


async def test_a_preference_replaces_the_choice(open_world):
    async with open_world(middlewares=[Chooser(choose(1), preferred=2)], servers=2) as world:
        assert await send_and_serve(world, 2) == [2, 2]


# --- parts


def divide(*weights, middlewares=()):
    """Build a divided service `w` whose part `p1` has server 1 and so on."""
    parts = tuple(
        Part(service=f"p{number}", weight=weight, middlewares=middlewares)
        for number, weight in enumerate(weights, start=1)
    )
    return {"w": build_service(parts=parts), **{f"p{n + 1}": build_service(n + 1) for n in range(len(weights))}}


RULES = build_rules(("/", HttpRule(service="w", middlewares=("m",))))


@pytest.mark.parametrize("middlewares", [(), ("m", "own")])
@pytest.mark.parametrize("weight", [0, 1])
async def test_a_choice_beats_the_weights_of_parts(open_world, middlewares, weight):
    chooser, own = Chooser(choose(2, "p2")), Chooser()
    async with open_world() as world:
        apply(world, divide(9, weight, middlewares=middlewares), {"m": chooser, "own": own}, rules=RULES)
        assert await send_and_serve(world, 3) == [2, 2, 2]
        assert chooser.backends[0] == (choose(1, "p1"), choose(2, "p2"))
        assert chooser.seen[1] == ("p2", ("10.0.1.2", 80))
        chooser.choice = None
        assert set(await send_and_serve(world, 10)) == ({1} if weight == 0 else {1, 2})
    assert len(own.seen) == (0 if not middlewares else 26)


async def test_a_server_of_two_parts_is_chosen_in_the_part_that_was_chosen(open_world):
    chooser = Chooser(choose(1, "p2"))
    async with open_world() as world:
        services = {**divide(1, 1), "p2": build_service(1, 2)}
        apply(world, services, {"m": chooser}, rules=RULES)
        assert await send_and_serve(world, 2) == [1, 1]
        assert chooser.seen[1] == chooser.seen[3] == ("p2", ("10.0.1.1", 80))
        chooser.choice, chooser.preferred = None, 2
        assert await send_and_serve(world, 2) == [2, 2]
        assert chooser.seen[-1] == ("p2", ("10.0.1.2", 80))


async def test_a_part_without_servers_offers_none(open_world):
    chooser = Chooser()
    async with open_world() as world:
        services = {**divide(0, 1), "p1": build_service(answer=Answer(status=500))}
        apply(world, services, {"m": chooser}, rules=RULES)
        assert await send_and_serve(world) == [2]
        assert chooser.backends[0] == (choose(2, "p2"),)


async def test_a_route_without_choosers_builds_no_backends(open_world):
    async with open_world() as world:
        await ask(world, GET)
        assert world.handler.current.table.routes["a"]._backends is None
