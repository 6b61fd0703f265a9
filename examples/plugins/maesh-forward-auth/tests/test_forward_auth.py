"""Requests through a real proxy, guarded by a real service that says yes, no, nothing, or too late."""

import asyncio
import socket
import threading
import time

import pytest
from maesh_forward_auth.questions import Asker

from maesh_testing import find_free_port


@pytest.fixture
def auth(start_upstream):
    return start_upstream("auth")


@pytest.fixture
def start_guarded(start_mesh, auth):
    """Start a mesh whose service is guarded, with the users that it hears of."""

    def start(*flags, port=auth.port):
        annotations = {
            "forward-auth-url": f"http://127.0.0.1:{port}/check?strict",
            "forward-auth-response-headers": "X-User",
        }
        return start_mesh("--forward-auth", "--workers", "1", *flags, annotations=annotations)

    return start


def test_the_question_tells_of_the_request_and_carries_its_credentials(start_guarded, auth):
    mesh = start_guarded()
    headers = {"Authorization": "Bearer x", "Accept-Language": "de"}
    assert mesh.send("POST", "/cart?id=1", headers=headers, body="{}").text == "app-1"
    (question,) = auth.requests
    assert (question.method, question.path, question.body) == ("GET", "/check?strict", b"")
    told = {name: value for name, value in question.headers.items() if name != "host"}
    assert told == {
        "x-forwarded-method": "POST",
        "x-forwarded-proto": "http",
        "x-forwarded-host": "app.test.maesh",
        "x-forwarded-uri": "/cart?id=1",
        "x-forwarded-for": "127.0.0.1",
        "authorization": "Bearer x",
    }


def test_a_refusal_goes_to_the_client_and_no_server_sees_the_request(start_guarded, auth):
    auth.status, auth.body = 401, b"who are you?"
    auth.headers = {"WWW-Authenticate": "Bearer", "Content-Type": "text/plain", "X-Internal": "secret"}
    mesh = start_guarded()
    answer = mesh.get()
    assert (answer.status, answer.body) == (401, b"who are you?")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert "X-Internal" not in answer.headers
    assert mesh.upstreams[0].count == 0


def test_the_server_is_told_who_it_is_by_the_service_and_never_by_the_client(start_guarded, auth):
    mesh = start_guarded()
    assert "x-user" not in mesh.get("/headers", headers={"X-User": "root"}).json
    auth.headers = {"X-User": "ann"}
    assert mesh.get("/headers", headers={"X-User": "root"}).json["x-user"] == "ann"


def test_it_fails_closed_where_nobody_answers(start_guarded):
    mesh = start_guarded(port=find_free_port())
    assert mesh.get().status == 503
    assert mesh.upstreams[0].count == 0


@pytest.mark.parametrize("status", [500, 503])
def test_it_fails_closed_where_the_service_is_in_trouble(start_guarded, auth, status):
    auth.status = status
    mesh = start_guarded()
    assert mesh.get().status == 503
    assert mesh.upstreams[0].count == 0


def test_it_fails_closed_where_the_answer_comes_too_late(start_guarded, auth):
    auth.delay_s = 2.0
    mesh = start_guarded("--set", "forward-auth.timeout=100ms")
    assert mesh.get().status == 503
    assert mesh.upstreams[0].count == 0
    auth.delay_s = 0.0
    assert mesh.get().status == 200


class RawServer:
    """Answers each request with the same bytes; counts connections, and closes them if it is to."""

    def __init__(self, answer, *, closes=False, afterwards=b""):
        self.answer, self.closes, self.afterwards, self.connections = answer, closes, afterwards, 0
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self.sock.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, connection):
        with connection:
            while connection.recv(65536):
                connection.sendall(self.answer)
                if self.closes:
                    return
                time.sleep(0.02)
                connection.sendall(self.afterwards)


@pytest.fixture
def serve():
    servers = []

    def start(answer, **options):
        servers.append(RawServer(answer, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.sock.close()


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


async def ask(server, times=1, at_once=1):
    """Ask so many times, so many questions at once; return the statuses."""
    asker = Asker("127.0.0.1", server.port, connections=2, timeout_s=5.0)
    statuses = []
    for _ in range(times):
        statuses += [answer.status for answer in await asyncio.gather(*(asker.ask(b"/", ()) for _ in range(at_once)))]
    asker.close()
    await asyncio.sleep(0)
    return statuses


async def test_connections_are_kept(serve):
    server = serve(OK)
    assert await ask(server, 5) == [200] * 5
    assert server.connections == 1


async def test_a_connection_that_was_closed_meanwhile_costs_no_answer(serve):
    server = serve(OK, closes=True)
    assert await ask(server, 5) == [200] * 5
    assert server.connections == 5


async def test_no_more_than_so_many_questions_are_under_way(serve):
    server = serve(OK)
    assert await ask(server, at_once=20) == [200] * 20
    assert server.connections == 2


async def test_what_was_not_asked_for_ends_the_connection(serve):
    server = serve(OK + OK)
    assert await ask(server, 2) == [200, 200]
    assert server.connections == 2


@pytest.mark.parametrize(
    "answer",
    [b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000],
    ids=["not HTTP", "too large"],
)
async def test_what_is_no_answer_is_an_error(serve, answer):
    with pytest.raises(ValueError, match="the answer"):
        await ask(serve(answer))


async def test_interim_answers_are_passed_over(serve):
    server = serve(b"HTTP/1.1 103 Early Hints\r\nX-User: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert await ask(server, 3) == [200] * 3
    assert server.connections == 1


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.0 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nsure"],
    ids=["1.0", "1.1 with a body"],
)
async def test_an_answer_may_end_with_its_connection(serve, answer):
    assert await ask(serve(answer, closes=True), 2) == [200, 200]


async def test_no_answer_is_taken_for_another_questions(serve):
    late = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    server = serve(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n", afterwards=late)
    asker = Asker("127.0.0.1", server.port, connections=1, timeout_s=5.0)
    for number in range(1, 4):
        assert (await asker.ask(b"/", ())).status == 401
        await asyncio.sleep(0.1)  # the late answer comes
        assert server.connections == number
    asker.close()
    await asyncio.sleep(0)


async def test_an_answer_that_ends_early_is_an_error(serve):
    with pytest.raises(ConnectionError):
        await ask(serve(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", closes=True))
