"""A controller that answers garbage or goes away: the proxy keeps serving what it had, and takes the next good one."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import cast

import pytest

from maesh_core.model.configuration import HttpRouter, Section, Server, Service
from maesh_core.model.messages import Update, render_update

pytestmark = pytest.mark.integration

KEY = "test/cart:80"


def build_body(entrypoint, port, revision, *, service=KEY):
    """Render a whole configuration with one service of one server."""
    router = HttpRouter(entrypoint=entrypoint, hosts=("cart.test.maesh",), service=service)
    servers = (Server(address="127.0.0.1", port=port),)
    section = Section(routers={KEY: router}, services={KEY: Service(servers=servers)})
    return render_update(Update(revision=revision, full=True, sections={"http": section}))


class FakeController(ThreadingHTTPServer):
    """Answers pulls with what the test has put in, each answer once; then with 304, after a moment."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, port):
        super().__init__(("127.0.0.1", port), PullHandler)
        self.answers = []
        self.changed = threading.Condition()
        self.is_closing = False

    def put(self, *answers):
        """Queue answers: (status, body) pairs, or None for a connection that is cut."""
        with self.changed:
            self.answers.extend(answers)
            self.changed.notify_all()

    def wait_until_all_were_sent(self):
        with self.changed:
            assert self.changed.wait_for(lambda: not self.answers, 60), f"not pulled: {len(self.answers)} answers"

    def take(self):
        with self.changed:
            self.changed.wait_for(lambda: self.answers or self.is_closing, 0.5)
            answer = self.answers.pop(0) if self.answers else (304, b"")
            self.changed.notify_all()
            return answer

    def handle_error(self, request, client_address):
        """Leave cut connections to the proxy."""


class PullHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65536
    timeout = 30

    def do_GET(self):
        answer = cast("FakeController", self.server).take()
        if answer is None:
            self.close_connection = True
            return
        status, body = answer
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if status != 304:
            self.wfile.write(body)

    def log_message(self, format, *args):  # noqa: A002 - the name is the base class's
        pass


@pytest.fixture
def controller(free_port):
    server = FakeController(free_port())
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield server
    server.is_closing = True
    server.shutdown()
    server.server_close()


@pytest.fixture
def entrypoint(free_port):
    return free_port()


@pytest.fixture
def proxy(controller, entrypoint, start_proxy, start_upstream):
    """Start a proxy that has taken one good configuration, which leads to the server `good`."""
    controller.put((200, build_body(entrypoint, start_upstream("good").port, "a.1")))
    return start_proxy(controller.server_port)


GARBAGE = {
    "an error": (500, b"no"),
    "nothing": (200, b""),
    "no JSON": (200, b"<html>\xff\x00</html>"),
    "other JSON": (200, b'["a", {"b": 1}]'),
    "half of it": (200, b'{"revision": "a.2", "full": true, "http": {"routers": {'),
    "wrong types": (200, b'{"revision": 2, "full": "yes", "http": 3}'),
    "deep nesting": (200, b'{"revision": "a.2", "full": true, "http": ' + b'{"x":' * 100_000),
    "a cut connection": None,
    "a status that means nothing": (204, b""),
}


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_from_the_controller_changes_nothing_and_the_next_good_answer_counts(
    proxy, controller, entrypoint, start_load, start_upstream, garbage
):
    load = start_load(entrypoint, "cart.test.maesh", connections=1)
    controller.put(GARBAGE[garbage])
    controller.wait_until_all_were_sent()
    load.wait_for(20)
    assert set(load.seen) == {"good"}
    controller.put((200, build_body(entrypoint, start_upstream("next").port, "a.3")))
    load.wait_until_seen("next")
    assert load.stop() == []


def test_router_without_its_service_is_refused_and_the_next_good_answer_counts(
    proxy, controller, entrypoint, start_load, get, start_upstream, wait_until
):
    controller.put((200, build_body(entrypoint, 1, "a.2", service="no/such:80")))
    answer = wait_until(lambda: (found := get(entrypoint, "cart.test.maesh")).status != 200 and found, "the refusal")
    assert answer.status == 503
    assert "no/such:80" in answer.headers["X-Maesh-Reason"]
    (refused,) = get(proxy[1], path="/status").json["refused"]
    assert KEY in refused["router"]
    controller.put((200, build_body(entrypoint, start_upstream("next").port, "a.3")))
    wait_until(lambda: get(entrypoint, "cart.test.maesh").text == "next", "the next good answer")
    assert get(proxy[1], path="/status").json["refused"] == []


def test_proxy_serves_on_while_the_controller_is_away(proxy, controller, entrypoint, start_load, get):
    load = start_load(entrypoint, "cart.test.maesh")
    controller.shutdown()
    controller.server_close()
    controller.is_closing = True
    load.wait_for(500)
    assert load.stop() == []
    assert get(proxy[1], path="/ready").status == 200


def test_proxy_waits_for_a_controller_that_is_not_there_yet(start_maesh, free_port, get, start_upstream):
    api_port, admin_port, entrypoint = free_port(), free_port(), free_port()
    proxy = start_maesh("proxy", "--endpoint", f"http://127.0.0.1:{api_port}", "--admin-port", admin_port)
    proxy.wait_until(lambda: get(admin_port, path="/ping").status == 200, "life")
    assert get(admin_port, path="/ready").status == 503
    late = FakeController(api_port)
    thread = threading.Thread(target=late.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        late.put((200, build_body(entrypoint, start_upstream("late").port, "a.1")))
        proxy.wait_until(lambda: get(admin_port, path="/ready").status == 200, "readiness")
        assert get(entrypoint, "cart.test.maesh").text == "late"
    finally:
        late.is_closing = True
        late.shutdown()
        late.server_close()
