"""Requests whose target or Host a middleware changes: what the server gets, and what stays as the client sent it."""

import pytest

from ..http2.framing import GET as HTTP2_GET
from ..http2.framing import accept_http2, open_http2
from ..observed import Observed
from .middleware_doubles import GET, OK, POST, ask, get_status


class Rewriter:
    """Sets the attributes of an exchange that it was given, and adds a header if it is asked to."""

    def __init__(self, *, header=False, **changes):
        self.header, self.changes, self.seen = header, changes, []

    def on_request(self, exchange):
        for name, value in self.changes.items():
            setattr(exchange, name, value)
        if self.header:
            exchange.request_headers.set(b"X-A", b"1")
        self.seen.append((exchange.target, exchange.host, exchange.new_target, exchange.new_host))


@pytest.mark.parametrize("kept", [b"", b"User-Agent: curl\r\n"])
async def test_the_target_alone_is_replaced(open_world, forwarded, kept):
    rewriter = Rewriter(new_target=b"/b?c=d")
    async with open_world(middlewares=[rewriter]) as world:
        request = GET[:-2] + kept + b"\r\n"
        client, server = await ask(world, request)
        server.expect(request[:-2].replace(b" / ", b" /b?c=d ") + forwarded)
        server.send(OK)
        client.expect(OK)
    assert rewriter.seen == [(b"/", b"a.test.maesh", b"/b?c=d", b"")]


async def test_the_host_is_replaced_and_x_forwarded_host_stays_that_of_the_client(open_world, forwarded):
    async with open_world(middlewares=[Rewriter(new_host=b"b.example:8080")]) as world:
        request = GET.replace(b"Host: a.test.maesh", b"X-One: 1\r\nHOST: a.test.maesh\r\nX-Two: 2")
        _, server = await ask(world, request)
        server.expect(b"GET / HTTP/1.1\r\nHost: b.example:8080\r\nX-One: 1\r\nX-Two: 2\r\n" + forwarded)


@pytest.mark.parametrize("header", [False, True])
async def test_framing_stays_when_target_and_host_are_replaced(open_world, forwarded, header):
    rewriter = Rewriter(new_target=b"/new", new_host=b"b", header=header)
    async with open_world(middlewares=[rewriter]) as world:
        request = POST.replace(b"Content-Length", b"Connection: close\r\nContent-Length")
        _, server = await ask(world, request)
        fields = b"Content-Length: 3\r\nX-A: 1\r\n" if header else b"Content-Length: 3\r\n"
        server.expect(b"POST /new HTTP/1.1\r\nHost: b\r\n" + fields + forwarded + b"abc")


async def test_an_upgrade_is_offered_with_the_new_target(open_world, forwarded):
    async with open_world(middlewares=[Rewriter(new_target=b"/new", new_host=b"b")]) as world:
        _, server = await ask(world, GET[:-2] + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        server.expect(b"GET /new HTTP/1.1\r\nHost: b\r\nConnection: upgrade\r\nUpgrade: websocket\r\n" + forwarded)


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_a_request_in_absolute_form_or_without_host_gets_the_new_host(open_world, version):
    async with open_world(middlewares=[Rewriter(new_host=b"b")]) as world:
        request = b"GET http://a.test.maesh/x HTTP/" + version + b"\r\nHost: other\r\n\r\n"
        _, server = await ask(world, request)
        assert server.take().startswith(b"GET /x HTTP/1.1\r\nHost: b\r\nX-Forwarded-For: ")


@pytest.mark.parametrize("header", [False, True])
async def test_a_request_over_http2_gets_the_new_path_and_authority(open_world, header):
    rewriter = Rewriter(new_target=b"/new", new_host=b"b:81", header=header)
    async with open_world(middlewares=[rewriter], scheme="h2c") as world:
        client = open_http2(world)
        client.send(client.headers(1, HTTP2_GET))
        server = await accept_http2(world)
        ((_, _, fields, is_end),) = server.take_streams()
        assert fields[:4] == [
            (b":method", b"GET"),
            (b":scheme", b"http"),
            (b":authority", b"b:81"),
            (b":path", b"/new"),
        ]
        assert dict(fields)[b"x-forwarded-host"] == b"a.test.maesh"
        assert dict(fields).get(b"x-a") == (b"1" if header else None)
        assert is_end


async def test_a_further_attempt_is_rewritten_too_and_may_go_elsewhere(open_world):
    class Retry(Rewriter):
        def on_attempt_failed(self, exchange, error):
            return True

        def on_attempt(self, exchange):
            exchange.new_target = b"/second"

    async with open_world(middlewares=[Retry(new_target=b"/first")], servers=2) as world:
        _, server = await ask(world)
        assert server.take().startswith(b"GET /first HTTP/1.1\r\n")
        server.lose()
        second = await world.accept()
        assert second.take().startswith(b"GET /second HTTP/1.1\r\nHost: a.test.maesh\r\n")


async def test_an_empty_value_restores_what_the_client_sent(open_world, forwarded):
    rewriter = Rewriter(new_target=b"/new", new_host=b"b")
    async with open_world(middlewares=[rewriter, Rewriter(new_target=b"", new_host=b"")]) as world:
        _, server = await ask(world)
        server.expect(GET[:-2] + forwarded)


async def test_a_repeated_head_is_rewritten_as_each_request_needs_it(open_world):
    rewriter = Rewriter(new_target=b"/one")
    async with open_world(middlewares=[rewriter]) as world:
        client, server = await ask(world)
        for target in (b"/one", b"/two", b""):
            rewriter.changes = {"new_target": target}
            server.take()
            server.send(OK)
            client.expect(OK)
            client.send(GET)
            assert server.take().startswith(b"GET %b HTTP/1.1\r\n" % (target or b"/"))


async def test_records_have_what_the_client_sent(open_world):
    async with open_world(middlewares=[Rewriter(new_target=b"/new", new_host=b"b")]) as world:
        observed = Observed(world)
        client, server = await ask(world)
        server.send(OK)
        client.expect(OK)
        (record,) = observed.records
        assert (record.target, record.host) == (b"/", b"a.test.maesh")


WRONG_TARGETS = (b"x", b"*", b"//a b", b"/a\r\nX: y", b"/a#b", b"/\xff", b"http://b/", b"/" + b"a" * 70000)
WRONG_HOSTS = (b"a b", b"a\r\nX: y", b"a/b", b"user@a", b":80", b"a:123456", b"[::1", b"\xc3\xa9")


@pytest.mark.parametrize(
    "change", [*({"new_target": each} for each in WRONG_TARGETS), *({"new_host": each} for each in WRONG_HOSTS)]
)
async def test_a_value_that_could_change_the_request_otherwise_is_refused(open_world, change):
    async with open_world(middlewares=[Rewriter(**change)]) as world:
        client = world.open_client()
        client.send(GET)
        await world.settle()
        assert get_status(client) == 500
        assert not world.connects
