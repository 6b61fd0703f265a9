"""What middlewares read of an exchange, and store on it."""

import contextlib
import gc
import weakref

import pytest

from maesh_core.proxy.http.exchanges.exchange_view import TRACE_ID_LIMIT

from .middleware_doubles import GET, OK, ask


async def test_reading_client_headers_does_not_change_the_request(open_world):
    seen = []

    class Reader:
        def on_request(self, exchange):
            seen.append([exchange.client_headers.get(name) for name in (b"Host", b"X-Forwarded-For", b"x-user")])

    async with open_world(middlewares=[Reader()]) as world:
        request = GET[:-2] + b"X-USER: me\r\nX-Forwarded-For: 1.1.1.1\r\n\r\n"
        client, server = await ask(world, request)
        assert server.take().startswith(GET[:-2] + b"X-USER: me\r\nX-Forwarded-For: 1.1.1.1, 10.0.0.9\r\n")
        server.send(OK)
        client.expect(OK)
    assert seen == [[b"a.test.maesh", b"1.1.1.1", b"me"]]


async def test_a_middleware_can_store_data_by_exchange_and_on_it(open_world):
    class Keeper:
        def __init__(self):
            self.by_exchange, self.weakly, self.notes = {}, weakref.WeakKeyDictionary(), []

        def on_request(self, exchange):
            exchange.note = self.by_exchange[exchange] = len(self.notes)
            with contextlib.suppress(TypeError):  # a compiled exchange cannot be referred to weakly
                self.weakly[exchange] = True

        def on_finished(self, exchange):
            self.notes.append((exchange.note, self.by_exchange.pop(exchange)))

    keeper = Keeper()
    async with open_world(middlewares=[keeper]) as world:
        client, server = await ask(world)
        server.send(OK)
        client.send(GET)
        server.send(OK)
        client.expect(OK * 2)
    gc.collect()
    assert keeper.notes == [(0, 0), (1, 1)]
    assert not keeper.weakly


@pytest.mark.parametrize("length", [32, TRACE_ID_LIMIT, TRACE_ID_LIMIT + 1, 10_000])
async def test_an_exemplar_is_kept_with_the_duration_and_its_trace_is_cut_at_the_limit(open_world, length):
    class Tracer:
        def on_finished(self, exchange):
            exchange.add_exemplar("a" * length)

    async with open_world(middlewares=[Tracer()]) as world:
        client, server = await ask(world)
        server.send(OK)
        client.expect(OK)
        ((_, histogram),) = next(
            family.samples
            for family in world.handler.collect_metrics()
            if family.name == "maesh_service_request_duration_seconds"
        )
    (exemplar,) = histogram.exemplars.values()
    assert exemplar.trace_id == "a" * min(length, TRACE_ID_LIMIT)
    assert exemplar.value >= 0
