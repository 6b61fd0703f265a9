"""gRPC calls over HTTP/2: answers of the mesh, time-outs, and the statuses that middlewares and metrics get."""

import pytest

from maesh_core.plugin_system.interfaces import Response

from .framing import CANCEL, HOST, INTERNAL_ERROR, NO_ERROR, accept_http2, open_http2, rst_stream

CALL = (
    (":method", "POST"),
    (":scheme", "http"),
    (":authority", HOST),
    (":path", "/shop.Cart/Get"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
)
HEAD = ((":status", "200"), ("content-type", "application/grpc"))
MESSAGE = b"\0\0\0\0\1a"


class Watcher:
    """Keeps the gRPC status at each call, and answers or repeats as it is told to."""

    kept_bytes = 1000

    def __init__(self, *, answer=None, repeats=0, timeout_s=0.0):
        self.seen, self.answer, self.repeats, self.timeout_s = [], answer, repeats, timeout_s

    def on_request(self, exchange):
        self.seen.append(("request", exchange.is_grpc, exchange.grpc_status))
        exchange.attempt_timeout_s = self.timeout_s
        return self.answer

    def on_response(self, exchange):
        self.seen.append(("response", exchange.is_grpc, exchange.grpc_status))
        self.repeats -= 1
        return True if self.repeats >= 0 else None

    def on_attempt_failed(self, exchange, error):
        self.seen.append(("failed", error.status, exchange.grpc_status))

    def on_finished(self, exchange):
        self.seen.append(("finished", exchange.is_grpc, exchange.grpc_status))


def count_calls(world):
    (family,) = [each for each in world.handler.collect_metrics() if each.name == "maesh_service_grpc_responses"]
    return dict(family.samples)


async def call(world, *fields, is_end=True):
    client = open_http2(world)
    frames = [client.headers(1, (*CALL, *fields), is_end=False), client.data(1, MESSAGE, is_end=is_end)]
    client.send(*frames)
    await world.settle()
    return client


async def call_server(world, *fields):
    client = await call(world, *fields)
    server = await accept_http2(world)
    server.take()
    return client, server


def read_answer(client, number=1):
    (kind, stream, fields, is_end), *rest = client.take_streams()
    assert (kind, stream, is_end, rest) == ("headers", number, True, [])
    return dict(fields)


# --- answers of the mesh


async def test_an_answer_to_a_call_is_one_header_list(open_h2c):
    async with open_h2c() as world:
        client = await call(world)
        await world.refuse()
        assert read_answer(client) == {
            b":status": b"200",
            b"content-type": b"application/grpc",
            b"grpc-status": b"14",
            b"grpc-message": b"cannot connect to the upstream",
            b"x-maesh-reason": b"cannot connect to the upstream",
        }
        (family,) = [each for each in world.handler.collect_metrics() if each.name == "maesh_service_requests"]
        assert family.samples == [(("a", "http/2", "5xx"), 1)]
        assert count_calls(world) == {("a", "14"): 1}
        client.peer.lose()


async def test_an_unknown_host_is_unimplemented(open_h2c):
    async with open_h2c() as world:
        client = open_http2(world)
        client.send(
            client.headers(1, [(name, "b.test.maesh" if name == ":authority" else value) for name, value in CALL])
        )
        await world.settle()
        assert read_answer(client)[b"grpc-status"] == b"12"
        client.peer.lose()


async def test_a_call_that_the_mesh_cannot_parse_is_answered_as_a_call(open_h2c):
    async with open_h2c() as world:
        client = open_http2(world)
        client.send(client.headers(1, (*CALL, ("expect", "tea"))))
        await world.settle()
        answer = read_answer(client)
        assert (answer[b":status"], answer[b"grpc-status"]) == (b"200", b"2")
        client.peer.lose()


async def test_another_request_gets_an_http_answer(open_h2c):
    async with open_h2c() as world:
        client = open_http2(world)
        fields = [(name, "application/grpc-web" if name == "content-type" else value) for name, value in CALL]
        client.send(client.headers(1, fields))
        await world.refuse()
        head, body = client.take_streams()
        assert head[2][0] == (b":status", b"502")
        assert body[2] == b"cannot connect to the upstream\n"
        assert count_calls(world) == {}
        client.peer.lose()


async def test_an_answer_before_the_end_of_the_request_ends_the_stream_without_an_error(open_h2c):
    answer = Response(status=429, reason="too fast", headers=((b"Retry-After", b"1"),))
    watcher = Watcher(answer=answer)
    async with open_h2c(middlewares=[watcher]) as world:
        client = await call(world, is_end=False)
        head, reset = client.take_streams()
        fields = dict(head[2])
        assert (fields[b"grpc-status"], fields[b"retry-after"]) == (b"8", b"1")
        assert reset == ("reset", 1, NO_ERROR)
        assert watcher.seen == [("request", True, None), ("finished", True, 8)]
        assert count_calls(world) == {("a", "8"): 1}
        client.peer.lose()


async def test_an_invalid_answer_of_a_middleware_is_internal(open_h2c):
    watcher = Watcher(answer=Response(status=429, reason="", headers=((b"a b", b""),)))
    async with open_h2c(middlewares=[watcher]) as world:
        client = await call(world)
        head, _ = client.take_streams()
        assert dict(head[2])[b"grpc-status"] == b"13"
        assert watcher.seen[-1] == ("finished", True, 13)
        client.peer.lose()


async def test_an_http_status_of_the_server_passes_unchanged(open_h2c):
    watcher = Watcher()
    async with open_h2c(middlewares=[watcher]) as world:
        client, server = await call_server(world)
        server.send(server.headers(1, ((":status", "503"), ("content-type", "text/html")), is_end=False))
        server.send(server.data(1, b"busy", is_end=True))
        await world.settle()
        head, body = client.take_streams()
        assert dict(head[2]) == {b":status": b"503", b"content-type": b"text/html"}
        assert body == ("data", 1, b"busy", True)
        assert watcher.seen[1:] == [("response", True, 14), ("finished", True, 14)]
        client.peer.lose()


# --- statuses of servers


async def test_a_status_in_trailers_is_known_at_the_end(open_h2c):
    watcher = Watcher()
    async with open_h2c(middlewares=[watcher]) as world:
        client, server = await call_server(world)
        server.send(server.headers(1, HEAD, is_end=False), server.data(1, MESSAGE))
        server.send(server.headers(1, (("grpc-status", "5"), ("grpc-message", "gone"))))
        await world.settle()
        assert client.take_streams()[-1] == ("headers", 1, [(b"grpc-status", b"5"), (b"grpc-message", b"gone")], True)
        assert watcher.seen[1:] == [("response", True, None), ("finished", True, 5)]
        assert count_calls(world) == {("a", "5"): 1}
        client.peer.lose()


async def test_a_status_in_the_head_is_known_at_once(open_h2c):
    watcher = Watcher()
    async with open_h2c(middlewares=[watcher]) as world:
        client, server = await call_server(world)
        server.send(server.headers(1, (*HEAD, ("grpc-status", "7"))))
        await world.settle()
        assert read_answer(client)[b"grpc-status"] == b"7"
        assert watcher.seen[1:] == [("response", True, 7), ("finished", True, 7)]
        client.peer.lose()


async def test_another_attempt_starts_without_a_status(open_h2c):
    watcher = Watcher(repeats=1)
    async with open_h2c(middlewares=[watcher]) as world:
        client, server = await call_server(world)
        server.send(server.headers(1, (*HEAD, ("grpc-status", "14"))))
        await world.settle()
        assert ("data", 3, MESSAGE, True) in server.take_streams()
        server.send(server.headers(3, HEAD, is_end=False), server.headers(3, (("grpc-status", "0"),)))
        await world.settle()
        assert client.take_streams()[-1][2] == [(b"grpc-status", b"0")]
        assert watcher.seen[1:] == [("response", True, 14), ("response", True, None), ("finished", True, 0)]
        assert count_calls(world) == {("a", "0"): 1}
        client.peer.lose()


async def test_a_call_without_a_status_is_unknown(open_h2c):
    async with open_h2c() as world:
        client, server = await call_server(world)
        server.send(server.headers(1, HEAD, is_end=False), server.data(1, MESSAGE, is_end=True))
        await world.settle()
        assert client.take_streams()[-1] == ("data", 1, MESSAGE, True)
        assert count_calls(world) == {("a", "2"): 1}
        client.peer.lose()


async def test_a_call_that_its_client_cancels_is_cancelled_also_at_the_server(open_h2c):
    async with open_h2c() as world:
        client, server = await call_server(world)
        client.send(rst_stream(1, CANCEL))
        await world.settle()
        assert server.take_streams() == [("reset", 1, CANCEL)]
        assert count_calls(world) == {("a", "1"): 1}
        client.peer.lose()


async def test_a_reset_of_the_server_is_passed_on_and_counted_as_clients_see_it(open_h2c):
    async with open_h2c() as world:
        client, server = await call_server(world)
        server.send(server.headers(1, HEAD, is_end=False), rst_stream(1, INTERNAL_ERROR))
        await world.settle()
        assert client.take_streams()[-1] == ("reset", 1, INTERNAL_ERROR)
        assert count_calls(world) == {("a", "13"): 1}
        client.peer.lose()


async def test_a_call_whose_server_is_lost_is_unavailable(open_h2c):
    async with open_h2c() as world:
        client, server = await call_server(world)
        server.send(server.headers(1, HEAD, is_end=False), server.data(1, MESSAGE))
        server.peer.lose()
        await world.settle()
        assert client.take_streams()[1:] == [
            ("data", 1, MESSAGE, False),
            (
                "headers",
                1,
                [
                    (b"grpc-status", b"14"),
                    (b"grpc-message", b"the upstream closed the connection during the response"),
                ],
                True,
            ),
        ]
        assert count_calls(world) == {("a", "14"): 1}
        client.peer.lose()


async def test_the_status_of_a_server_of_http1_is_read_from_its_trailers(world):
    client = await call(world)
    server = await world.accept()
    server.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n\r\n")
    server.send(b"0\r\nGrpc-Status: 3\r\n\r\n")
    await world.settle()
    assert client.take_streams()[-1] == ("headers", 1, [(b"grpc-status", b"3")], True)
    assert count_calls(world) == {("a", "3"): 1}
    client.peer.lose()


async def test_another_attempt_after_a_lost_connection_does_not_use_that_connection(open_h2c):
    watcher = Watcher()
    watcher.on_attempt_failed = lambda exchange, error: True
    async with open_h2c(middlewares=[watcher]) as world:
        client, server = await call_server(world)
        server.peer.lose()
        second = await accept_http2(world)
        assert [message[0] for message in second.take_streams()] == ["headers", "data"]
        second.send(second.headers(1, (*HEAD, ("grpc-status", "0"))))
        await world.settle()
        assert read_answer(client)[b"grpc-status"] == b"0"
        client.peer.lose()


# --- time-outs


async def test_a_call_whose_time_is_up_is_answered(open_h2c):
    watcher = Watcher()
    async with open_h2c(middlewares=[watcher]) as world:
        client, server = await call_server(world, ("grpc-timeout", "20m"))
        await world.until(lambda: len(watcher.seen) > 1)
        await world.settle()
        assert read_answer(client)[b"grpc-status"] == b"4"
        assert server.take_streams() == [("reset", 1, CANCEL)]
        assert watcher.seen[1:] == [("failed", 504, None), ("finished", True, 4)]
        client.peer.lose()


async def test_a_timeout_is_forwarded_unchanged_and_ends_with_the_head(open_h2c):
    async with open_h2c() as world:
        client = await call(world, ("grpc-timeout", "00030000m"))
        server = await accept_http2(world)
        assert dict(server.take_streams()[0][2])[b"grpc-timeout"] == b"00030000m"
        (exchange,) = [each for client in world.handler.environment.clients for each in client.list_exchanges()]
        attempt = exchange.attempt
        assert attempt._head_limit is not None
        server.send(server.headers(1, HEAD, is_end=False))
        await world.settle()
        assert attempt._head_limit is None
        client.peer.lose()


async def test_a_server_is_not_set_aside_because_a_client_has_little_time(open_h2c):
    async with open_h2c() as world:
        client = await call(world, ("grpc-timeout", "1m"))
        await world.until(lambda: count_calls(world))
        await world.settle()
        assert read_answer(client)[b"grpc-status"] == b"4"
        assert count_calls(world) == {("a", "4"): 1}
        (server,) = world.handler._servers.values()
        assert server.aside is None
        client.peer.lose()


@pytest.mark.parametrize(("own", "clients", "shorter"), [(0.02, "50S", 504), (50.0, "20m", 504), (0.0, "20m", 504)])
async def test_of_two_timeouts_the_shorter_one_counts(open_h2c, pass_time, own, clients, shorter):
    watcher = Watcher(timeout_s=own)
    async with open_h2c(middlewares=[watcher]) as world:
        client, _ = await call_server(world, ("grpc-timeout", clients))
        pass_time(0.019)
        assert len(watcher.seen) == 1
        pass_time(0.001)
        assert watcher.seen[1] == ("failed", shorter, None)
        client.peer.lose()
