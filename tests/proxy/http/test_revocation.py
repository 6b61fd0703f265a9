"""A permission that is taken away ends the exchanges under way that it had let in, and no others."""

import pytest

from maesh_core.model.configuration import HttpBranch, HttpRouter, Section, Server, Service
from maesh_core.model.matches import HttpMatch
from maesh_core.plugin_system.interfaces import Response

GET = b"GET / HTTP/1.1\r\nHost: a.test.maesh\r\n\r\n"
UPLOAD = b"POST / HTTP/1.1\r\nHost: a.test.maesh\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
DENIED = Response(status=403, reason="not you")


class Gate:
    """Lets requests in while it is open, and judges those under way; keeps what it was asked about."""

    def __init__(self, answer=True, *, delay_s=None):
        self.answer, self.delay_s, self.seen, self.ended = answer, delay_s, [], []

    def on_request(self, exchange):
        return self.delay_s if self.answer else DENIED

    def is_still_allowed(self, connection):
        exchange = connection.exchange
        self.seen.append((exchange.target, connection.client_address, exchange.destination, connection.server))
        if self.answer is None:
            raise LookupError("who is this?")
        return self.answer

    def on_finished(self, exchange):
        self.ended.append(exchange.status)


async def begin(world, request=GET):
    client = world.open_client()
    client.send(request)
    server = await world.accept()
    server.take()
    return client, server


@pytest.mark.parametrize("answer", [False, None])
async def test_a_response_that_has_begun_is_reset_on_both_sides(world, answer):
    first = Gate()
    world.apply(middlewares=[first])
    client, server = await begin(world)
    server.send(STREAM)
    client.take()
    world.apply(middlewares=[Gate(answer)])
    await world.settle()
    assert client.transport.is_reset
    assert server.transport.is_aborted
    assert first.ended == [200]


@pytest.mark.parametrize("answer", [False, None])
async def test_a_request_without_a_response_yet_is_answered_403_and_its_connection_goes_on(world, answer):
    world.apply(middlewares=[Gate()])
    client, server = await begin(world)
    world.apply(middlewares=[Gate(answer)])
    await world.settle()
    sent = client.take()
    assert sent.startswith(b"HTTP/1.1 403 ")
    assert b"X-Maesh-Reason: access is no longer allowed\r\n" in sent
    assert server.transport.is_aborted
    world.apply(middlewares=[Gate(False)])
    client.send(GET)
    assert b"X-Maesh-Reason: not you\r\n" in client.take()


async def test_an_upload_is_answered_403_and_what_still_comes_of_it_goes_nowhere(world):
    world.apply(middlewares=[Gate()])
    client, server = await begin(world, UPLOAD)
    world.apply(middlewares=[Gate(False)])
    client.send(b"3\r\ndef\r\n")
    sent = client.take()
    assert sent.startswith(b"HTTP/1.1 403 ")
    assert b"\r\nConnection: close\r\n" in sent
    assert server.transport.is_aborted
    server.expect(b"")


async def test_a_request_that_waits_for_its_connection_or_for_a_middleware_is_never_sent(world):
    world.apply(middlewares=[Gate()])
    connecting = world.open_client()
    connecting.send(GET)
    await world.settle()
    world.apply(middlewares=[Gate(False)])
    assert connecting.take().startswith(b"HTTP/1.1 403 ")
    await world.settle()
    world.connects.clear()
    world.apply(middlewares=[Gate(delay_s=5.0)])
    waiting = world.open_client()
    waiting.send(GET)
    judging = Gate(False)
    world.apply(middlewares=[judging])
    assert waiting.take().startswith(b"HTTP/1.1 403 ")
    assert judging.seen == [(b"/", "10.0.0.9", "a", None)]
    await world.settle()
    assert not world.connects


async def test_allowed_exchanges_go_on_and_no_judge_is_asked_while_the_route_is_the_same(world):
    kept, judging = Gate(), Gate()
    world.apply(middlewares=[kept])
    client, server = await begin(world)
    world.handler.apply_table(
        world.handler.compile_table(Section(), middlewares={}, changed=frozenset({"another"})),
    )
    world.apply(middlewares=[judging])
    assert (kept.seen, judging.seen) == ([], [(b"/", "10.0.0.9", "a", ("10.0.1.1", 80))])
    server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    assert client.take().endswith(b"ok")
    assert kept.ended == [200]


@pytest.mark.parametrize("middlewares", [[], [Gate()]])
async def test_a_request_whose_host_is_gone_goes_on_unless_a_judge_had_let_it_in(world, middlewares):
    world.apply(middlewares=middlewares)
    client, server = await begin(world)
    world.handler.apply_table(world.handler.compile_table(Section(), middlewares={}, changed=None))
    server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert client.take().split(b" ")[1] == (b"403" if middlewares else b"200")


def build_section(*branches, middleware="m"):
    services = {
        name: Service(servers=(Server(address=f"10.0.1.{number}", port=80),)) for number, name in enumerate("abc")
    }
    router = HttpRouter(
        entrypoint=5000, hosts=("a.test.maesh",), service="a", middlewares=(middleware,), branches=branches
    )
    return Section(routers={"a": router}, services=services)


def apply(world, gate, *branches):
    section = build_section(*branches)
    world.handler.apply_table(world.handler.compile_table(section, middlewares={"m": gate}, changed=None))


B = HttpBranch(service="b", matches=(HttpMatch(methods=("GET",)),))
C = HttpBranch(service="c", matches=(HttpMatch(methods=("GET",)),))
BY_PATH = HttpBranch(service="b", matches=(HttpMatch(paths=("/api",)),))


@pytest.mark.parametrize(("branches", "destination"), [((B, C), "b"), ((C, B), "b"), ((C,), "c"), ((), "a")])
async def test_a_request_is_judged_by_its_branch_or_by_what_it_would_come_to_without_it(world, branches, destination):
    apply(world, Gate(), B)
    client, server = await begin(world)
    judging = Gate()
    apply(world, judging, *branches)
    assert judging.seen == [(b"/", "10.0.0.9", destination, ("10.0.1.1", 80))]
    server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert client.take().startswith(b"HTTP/1.1 200 ")


async def test_a_request_whose_path_the_new_branches_refuse_is_ended(world):
    apply(world, Gate(), C)
    client, _ = await begin(world, GET.replace(b"/", b"/api/../x", 1))
    apply(world, Gate(), BY_PATH)
    assert client.take().startswith(b"HTTP/1.1 403 ")


async def test_a_connection_that_is_idle_or_without_judges_is_left_alone(world):
    world.apply(middlewares=[Gate()])
    idle = world.open_client()
    world.apply()
    client, server = await begin(world)
    judging = Gate(False)
    world.apply(middlewares=[judging])
    world.apply(middlewares=[judging])
    server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert client.take().startswith(b"HTTP/1.1 200 ")
    assert not idle.is_closed
    assert not judging.seen
