"""Limits of docs/proxy-behaviour.md that no other test reaches."""

from maesh_core.proxy.http.exchanges.middleware_run import DELAY_LIMIT_S
from maesh_core.proxy.http.upstreams.connection_pool import IDLE_LIMIT

GET = b"GET / HTTP/1.1\r\nHost: a.test.maesh\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def test_no_more_idle_connections_than_the_limit_are_kept_to_a_server(world):
    for _ in range(IDLE_LIMIT + 2):
        world.open_client().send(GET)
        await world.accept()
    for server in world.servers:
        server.send(OK)
    assert len(world.idle) == IDLE_LIMIT
    assert [server.is_closed for server in world.servers].count(True) == 2


class Sloth:
    def on_request(self, exchange):
        return 1e9


async def test_a_middleware_holds_a_request_no_longer_than_the_limit(open_world, monkeypatch):
    async with open_world(middlewares=[Sloth()]) as world:
        delays = []
        call_later = world.loop.call_later
        monkeypatch.setattr(
            world.loop, "call_later", lambda delay, *call: delays.append(delay) or call_later(delay, *call)
        )
        world.open_client().send(GET)
        monkeypatch.undo()
        assert delays == [DELAY_LIMIT_S]
