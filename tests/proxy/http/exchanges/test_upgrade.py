"""Upgrades: what is offered to a server, and what becomes of its answers."""

import pytest

from maesh_core.errors import ConfigurationError
from maesh_core.proxy.http.messages.request_parsing import parse_request_head
from maesh_core.settings import CarryingSettings

UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: a.test.maesh\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nX: y\r\n\r\n"
)
PASSED = b"GET /ws HTTP/1.1\r\nHost: a.test.maesh\r\nX: y\r\nConnection: upgrade\r\nUpgrade: WebSocket\r\n"
GET = b"GET / HTTP/1.1\r\nHost: a.test.maesh\r\n\r\n"
SWITCHING = b"HTTP/1.1 101 Switching\r\nupgrade: websocket\r\nY: z\r\nConnection: Upgrade\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching\r\nY: z\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def ask(world, request=UPGRADE):
    client = world.open_client()
    client.send(request)
    return client, await world.accept()


@pytest.mark.parametrize(
    ("connection", "upgrade", "version", "offered"),
    [
        (b"upgrade", b"websocket", b"1.1", b"websocket"),
        (b"keep-alive, UPGRADE", b"a/1.1 , B", b"1.1", b"a/1.1, B"),
        (b"upgrade", b"h2c", b"1.1", b""),
        (b"upgrade", b"H2C, websocket, HTTP/2.0", b"1.1", b"websocket"),
        (b"upgrade", b"a b, {}, a/b/c, ,", b"1.1", b""),
        (b"keep-alive", b"websocket", b"1.1", b""),
        (b"upgrade, keep-alive", b"websocket", b"1.0", b""),
    ],
)
def test_what_is_offered_is_what_the_client_offers_but_http_2(connection, upgrade, version, offered):
    head = b"GET / HTTP/%b\r\nHost: a\r\nConnection: %b\r\nUpgrade: %b\r\n\r\n" % (version, connection, upgrade)
    read = parse_request_head(head)
    assert read.upgrade == offered
    passed = b"Connection: upgrade\r\nUpgrade: %b\r\n" % offered if offered else b""
    assert read.outgoing == b"GET / HTTP/1.1\r\nHost: a\r\n" + passed


async def test_an_upgrade_is_passed_on_and_answered_and_what_comes_behind_the_answer_goes_to_the_client(
    world, forwarded
):
    client, server = await ask(world)
    server.expect(PASSED + forwarded)
    server.send(SWITCHING + b"\x81\x00")
    client.expect(SWITCHED + b"\x81\x00")
    client.send(b"\x00GET / HTTP/1.1\r\n\r\n")
    server.expect(b"\x00GET / HTTP/1.1\r\n\r\n")
    server.send(OK)
    client.expect(OK)


async def test_an_upgrade_goes_without_the_claims_of_a_client_that_is_not_trusted(open_world, forwarded):
    async with open_world(settings=CarryingSettings(node="node", forwarded_headers=())) as world:
        claims = b"Forwarded: for=1.1.1.1\r\nX-Real-IP: 1.1.1.1\r\nX_Forwarded_Proto: https\r\n\r\n"
        _, server = await ask(world, UPGRADE[:-2] + claims)
        server.expect(PASSED + forwarded)


async def test_an_answer_split_at_every_byte_opens_the_same_tunnel(open_world):
    answer = b"HTTP/1.1 102 Wait\r\n\r\n" + SWITCHING + b"ab"
    for cut in range(1, len(answer)):
        async with open_world() as world:
            client, server = await ask(world)
            server.send(answer[:cut])
            server.send(answer[cut:])
            client.expect(b"HTTP/1.1 102 Wait\r\n\r\n" + SWITCHED + b"ab")
            assert len(world.handler.environment.tunnels) == 1


async def test_what_a_client_sends_early_is_held_for_the_tunnel(world, forwarded):
    client, server = await ask(world, UPGRADE + GET)
    client.send(GET)
    server.expect(PASSED + forwarded)
    server.send(SWITCHING)
    server.expect(GET + GET)
    client.expect(SWITCHED)


@pytest.mark.parametrize("when", ["before the head", "within the body", "behind the body"])
@pytest.mark.parametrize("is_whole", [False, True])
async def test_what_a_client_sends_early_is_never_a_request(world, when, is_whole):
    client, server = await ask(world)
    server.take()
    if when == "before the head":
        client.send(GET)
    server.send(OK if is_whole and when != "within the body" else OK[:-1])
    if when == "within the body":
        client.send(GET)
    if not server.is_closed and server.transport.protocol._receiver is not None:
        server.send(OK[-1:])
    answer = client.take()
    assert answer.endswith(b"ok")
    if when == "behind the body":  # the client may have seen that there is no tunnel
        assert b"Connection: close" not in answer
        client.send(GET)
        assert server.take().startswith(b"GET / ")
        return
    assert (b"Connection: close" in answer) == (when == "before the head")
    assert client.transport.has_ended
    server.expect(b"")
    assert not world.connects


async def test_any_other_answer_is_an_ordinary_one(world):
    client, server = await ask(world)
    server.send(OK)
    client.expect(OK)
    assert len(world.idle) == 1
    client.send(GET)
    server.send(OK)
    client.expect(OK)
    assert not world.handler.environment.tunnels


async def test_a_body_goes_before_the_change(world, forwarded):
    post = UPGRADE.replace(b"GET", b"POST").replace(b"X: y", b"Content-Length: 3")
    client, server = await ask(world, post + b"a")
    passed = PASSED.replace(b"GET", b"POST").replace(b"X: y", b"Content-Length: 3")
    server.expect(passed + forwarded + b"a")
    client.send(b"bcd")
    server.expect(b"bc")
    server.send(SWITCHING)
    client.expect(SWITCHED)
    server.expect(b"d")


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (GET, SWITCHING),
        (GET, b"HTTP/1.1 101 Switching\r\n\r\n"),
        (UPGRADE, b"HTTP/1.1 101 Switching\r\n\r\n"),
        (UPGRADE, b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n\r\n"),
        (UPGRADE, b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\n\r\n"),
        (UPGRADE, SWITCHING.replace(b"websocket", b"h2c")),
        (UPGRADE.replace(b"X: y", b"Content-Length: 1"), SWITCHING),
        (UPGRADE.replace(b"WebSocket", b"h2c"), SWITCHING.replace(b"websocket", b"h2c")),
    ],
)
async def test_a_change_that_was_not_offered_or_comes_before_its_request_is_502(world, request_, answer):
    client, server = await ask(world, request_)
    server.send(answer)
    assert client.take().startswith(b"HTTP/1.1 502 ")
    assert server.is_closed
    assert not world.handler.environment.tunnels


class Repeater:
    """Asks for another attempt whatever happens."""

    def __init__(self):
        self.calls = []

    def on_attempt_failed(self, exchange, error):
        self.calls.append("failed")
        return True

    def on_response(self, exchange):
        self.calls.append(("response", exchange.status))
        exchange.response_headers.set(b"Z", b"1")
        return True

    def on_finished(self, exchange):
        self.calls.append(("finished", exchange.status))


async def test_middlewares_see_the_change_and_the_end_of_the_tunnel_and_cannot_repeat_it(open_world):
    repeater = Repeater()
    async with open_world(middlewares=[repeater]) as world:
        client, server = await ask(world)
        server.send(SWITCHING)
        client.expect(SWITCHED.replace(b"Y: z\r\n", b"Y: z\r\nZ: 1\r\n"))
        assert repeater.calls == [("response", 101)]
        client.end()
        server.end()
        await world.settle()
        assert repeater.calls == [("response", 101), ("finished", 101)]
        assert world.handler.current.table.counters["a"].statuses.by_status == {101: 1}
        assert not world.connects


async def test_a_middleware_that_raises_at_the_change_leaves_no_tunnel(open_world):
    class Raiser:
        def on_response(self, exchange):
            raise ConfigurationError("boom")

    async with open_world(middlewares=[Raiser()]) as world:
        client, server = await ask(world)
        server.send(SWITCHING)
        assert client.take().startswith(b"HTTP/1.1 500 ")
        assert server.is_closed
        assert not world.handler.environment.tunnels


async def test_middlewares_repeat_an_upgrade_only_when_nothing_was_sent(open_world):
    repeater = Repeater()
    async with open_world(middlewares=[repeater], servers=2) as world:
        client = world.open_client()
        client.send(GET)
        (await world.accept()).send(OK)
        assert len(world.idle) == 0  # the repeater wanted another
        (await world.accept()).send(OK)
        client.lose()
        repeater.calls.clear()
        client = world.open_client()
        client.send(UPGRADE)
        await world.refuse()
        server = await world.accept()
        server.lose()
        await world.settle()
        assert client.take().startswith(b"HTTP/1.1 502 ")
        assert not world.connects
    assert repeater.calls == ["failed", "failed", ("finished", 502)]


async def test_upgrades_that_are_answered_in_the_ordinary_way_leave_one_connection(world):
    server = await world.pool()
    for _ in range(100):
        client = world.open_client()
        client.send(UPGRADE)
        server.send(OK)
        client.expect(OK)
        client.lose()
    assert world.idle == [server.protocol]
    assert len(world.servers) == 1


async def test_a_tunnel_takes_its_connection_from_the_pool_and_never_returns_it(world):
    server = await world.pool()
    client = world.open_client()
    client.send(UPGRADE)
    assert not world.idle
    server.send(SWITCHING + b"a")
    client.expect(SWITCHED + b"a")
    client.send(b"b")
    assert server.take().endswith(b"b")
    server.lose()
    await world.settle()
    assert not world.idle
    assert world.handler.is_drained()


class AfterFailures:
    """Asks for another attempt after each that failed."""

    def on_attempt_failed(self, exchange, error):
        return True


@pytest.mark.parametrize("middlewares", [[], [AfterFailures()]], ids=["alone", "with a middleware"])
async def test_an_upgrade_that_met_a_stale_connection_is_sent_once_more(open_world, forwarded, middlewares):
    async with open_world(middlewares=middlewares) as world:
        stale = await world.pool()
        client = world.open_client()
        client.send(UPGRADE)
        stale.expect(PASSED + forwarded)
        stale.lose()
        fresh = await world.accept()
        fresh.expect(PASSED + forwarded)
        fresh.lose()
        await world.settle()
        assert client.take().startswith(b"HTTP/1.1 502 ")
        assert not world.connects


async def test_an_upgrade_that_may_have_had_an_effect_is_not_sent_again(world):
    stale = await world.pool()
    client = world.open_client()
    client.send(UPGRADE.replace(b"GET", b"POST"))
    stale.lose()
    await world.settle()
    assert client.take().startswith(b"HTTP/1.1 502 ")
    assert not world.connects


async def test_a_client_that_ended_its_side_before_the_change_has_ended_it_in_the_tunnel(open_world):
    async with open_world(settings=CarryingSettings(node="node", half_closed_clients="serve")) as world:
        client, server = await ask(world)
        client.end()
        server.take()
        server.send(SWITCHING + b"a")
        client.expect(SWITCHED + b"a")
        assert server.transport.has_ended
        server.send(b"b")
        client.expect(b"b")
        server.end()
        await world.settle()
        assert client.is_closed
        assert server.is_closed


async def test_a_client_that_ends_its_side_before_the_change_has_left(world):
    client, server = await ask(world)
    client.end()
    await world.settle()
    assert client.is_closed
    assert server.is_closed
    assert world.handler.current.table.counters["a"].statuses.by_status == {499: 1}


async def test_an_upgrade_that_is_not_answered_is_504(world):
    client, server = await ask(world)
    world.advance(60.0)
    assert client.take().startswith(b"HTTP/1.1 504 ")
    assert server.is_closed
