"""What nginx and HAProxy do with the corpus, so that what is recorded of them is true.

Each stands in front of a small server that keeps the requests it got, or plays a response. Where another version is
installed than that recorded, the test is skipped. MAESH_REGENERATE_CASES=1 writes the records anew, and fails if they
differ.
"""

import asyncio
import contextlib
import importlib.util
import os
import re
import socket
import struct
import subprocess
import sys
import threading
import tomllib
from pathlib import Path

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.peer, pytest.mark.timeout(600)]

FOLDER = Path(__file__).parents[1] / "data" / "http"
SPEC = importlib.util.spec_from_file_location("maesh_test_corpus", FOLDER / "corpus.py")
corpus = sys.modules[SPEC.name] = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(corpus)

PROBE = b"GET /probe HTTP/1.1\r\nHost: a.test.maesh\r\nConnection: close\r\n\r\n"
NEXT = b"GET /next HTTP/1.1\r\nHost: a.test.maesh\r\n\r\n"
NEXT_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext"
PATIENCE_S = 60
QUIET_S = 0.5
"""How long a body that a server resets may take to reach the client; a proxy that buffers passes none of it."""
RESET = struct.pack("ii", 1, 0)

NGINX = """\
daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  client_header_timeout 1s; client_body_timeout 1s; keepalive_timeout 3s; lingering_timeout 1s;
  upstream recorder {{ server 127.0.0.1:{upstream}; keepalive 8; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://recorder; proxy_http_version 1.1; proxy_request_buffering off;
      proxy_set_header Connection ""; proxy_set_header Host $http_host;
      proxy_connect_timeout 1s; proxy_read_timeout 300ms; proxy_send_timeout 1s; proxy_next_upstream off;
    }}
  }}
}}
"""
HAPROXY = """\
global
  nbthread 1
defaults
  mode http
  option http-keep-alive
  http-reuse always
  retries 0
  timeout connect 1s
  timeout client 1s
  timeout server 1s
  timeout http-request 1s
frontend corpus
  bind 127.0.0.1:{port}
  default_backend recorder
backend recorder
  option forwardfor
  server recorder 127.0.0.1:{upstream}
"""
PEERS = {
    "nginx": (NGINX, ("-v",), lambda path, folder: [path, "-c", folder / "configuration", "-p", folder]),
    "haproxy": (HAPROXY, ("-v",), lambda path, folder: [path, "-db", "-f", folder / "configuration"]),
}


class Upstream:
    """A server in a thread of its own, which sees all in order; it keeps requests, and answers or plays a case."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.requests = []
        self.case = None
        self.player = None
        self.is_played = False
        self.writers = set()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.is_ready = threading.Event()
        self.thread.start()
        assert self.is_ready.wait(PATIENCE_S)

    def _run(self):
        asyncio.set_event_loop(self.loop)
        server = self.loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**20))
        self.port = server.sockets[0].getsockname()[1]
        self.is_ready.set()
        self.loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                self.loop.run_until_complete(task)
        self.loop.close()

    def stop(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive()

    def call(self, function, *arguments):
        """Call in the server's thread, and wait for it."""

        async def run():
            return function(*arguments)

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(PATIENCE_S)

    def start_case(self, case):
        """Begin anew; a response is played on the first request."""
        self.requests.clear()
        self.case, self.player, self.is_played = case, None, False

    async def _serve(self, reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                request = [head, b"", False]
                self.requests.append(request)
                if self._plays(head):
                    await self._play(writer)
                    continue
                await _read_body(reader, request)
                request[2] = True
                answer = NEXT_ANSWER if b" /next " in head else b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
                writer.write(answer[:-2] if head.startswith(b"HEAD ") else answer)
        writer.close()

    def _plays(self, head):
        return isinstance(self.case, corpus.ResponseCase) and not self.is_played and b" /next " not in head

    async def _play(self, writer):
        self.is_played = True
        self.player = writer
        writer.write(self.case.data)
        if self.case.end and not self.case.later and (self.case.end == "close" or not self.case.data):
            self.end_case()

    def send_later(self):
        """Send what nobody asked for, and end if the case says so."""
        if self.player is not None and not self.player.is_closing():
            self.player.write(corpus.join(self.case.later))
            if self.case.end:
                self.end_case()

    def end_case(self):
        """End the connection as the case says."""
        if self.player is None or self.player.is_closing():
            return
        if self.case.end == "reset":
            self.player.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self.player.transport.abort()
        else:
            self.player.close()


async def _read_body(reader, request):
    """Read a body as its head frames it; what a proxy sends is taken to be well formed."""
    head = request[0].lower()
    if b"\r\ntransfer-encoding: chunked\r\n" in head:
        while True:
            size = int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16)
            if not size:
                break
            request[1] += (await reader.readexactly(size + 2))[:-2]
        while await reader.readuntil(b"\r\n") != b"\r\n":
            pass
    elif length := re.search(rb"\r\ncontent-length: *(\d+)\r\n", head):
        request[1] = await reader.readexactly(int(length[1]))


@pytest.fixture
def upstream():
    server = Upstream()
    yield server
    server.stop()


@pytest.fixture(params=PEERS)
def peer(request, program, tmp_path, free_port, upstream, wait_until):
    """Run a peer in front of the server; return its name and port."""
    name = request.param
    configuration, version_flags, build_command = PEERS[name]
    path, port = program(name), free_port()
    _check_version(name, path, version_flags)
    (tmp_path / "configuration").write_text(configuration.format(folder=tmp_path, port=port, upstream=upstream.port))
    with contextlib.ExitStack() as stack:
        process = subprocess.Popen(build_command(path, tmp_path), stderr=subprocess.DEVNULL, cwd=tmp_path)
        stack.callback(process.wait, PATIENCE_S)
        stack.callback(process.terminate)
        wait_until(lambda: is_listening(port), name)
        yield name, port


def _check_version(name, path, flags):
    shown = subprocess.run([path, *flags], capture_output=True, check=True, timeout=PATIENCE_S)
    version = re.search(r"\d+\.\d+", (shown.stdout + shown.stderr).decode())[0]
    recorded = tomllib.loads((FOLDER / "peers.toml").read_text())[name]
    if version != recorded:
        pytest.skip(f"{name} is {version}, and what it does is recorded for {recorded}")


def is_listening(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), PATIENCE_S):
        return True
    return False


def exchange(port, data, *, ends=False):
    """Send bytes on a connection of its own, and read to its end."""
    got = b""
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(data)
            if ends:
                connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            while piece := connection.recv(65536):
                got += piece
    return got


def read_final_status(got):
    """Read the status of the first response that is not informational; 0 where there is none."""
    for status in re.findall(rb"HTTP/1\.\d (\d\d\d)", got):
        if status[:1] != b"1":
            return int(status)
    return 0


def replay_request(case, port, upstream):
    """Send a request of the corpus through a peer; return the record."""
    upstream.call(upstream.start_case, case)
    got = exchange(port, case.data if case.end else case.data + PROBE, ends=case.end)
    exchange(port, PROBE)  # comes to the server behind all that the case had it sent
    requests = upstream.call(lambda: [tuple(request) for request in upstream.requests])
    requests = [request for request in requests if b" /probe " not in request[0].partition(b"\r\n")[0]]
    status = read_final_status(got)
    if any(b"/probe" in body for _, body, _ in requests):
        return "swallowed"
    if all(is_complete for _, _, is_complete in requests) and requests:
        return "forwarded" if len(requests) == 1 else f"forwarded {len(requests)}"
    told = str(status) if status else ""
    return f"cut {told}".strip() if requests else told or "closed"


class Response:
    """A response as a client reads it: its status, and whether it has come to its end."""

    def __init__(self, connection, *, is_head, on_first_bytes):
        self.connection, self.got = connection, b""
        self.on_first_bytes = on_first_bytes
        self.status, self.is_complete, self.is_open, self.is_ended, self.has_bytes = 0, False, True, False, False
        while self._read_head() and self.status // 100 == 1:
            pass
        if self.status:
            self._read_body(is_head=is_head)

    def _receive(self):
        try:
            piece = self.connection.recv(65536)
        except ConnectionError:
            self.is_open = False
            return False
        if not piece:
            self.is_open, self.is_ended = False, True
            return False
        self.got += piece
        self.has_bytes = True
        self.on_first_bytes()
        return True

    def _read_head(self):
        while b"\r\n\r\n" not in self.got:
            if not self._receive():
                return False
        head, _, self.got = self.got.partition(b"\r\n\r\n")
        self.head = head.lower() + b"\r\n"
        self.status = read_status(head)
        return True

    def _read_body(self, *, is_head):
        length = re.search(rb"\r\ncontent-length: *(\d+)\r\n", self.head)
        if is_head or self.status in (204, 304):
            self.is_complete = True
        elif b"\r\ntransfer-encoding: chunked\r\n" in self.head:
            self._read_while(lambda: not match_chunked(self.got))
        elif length:
            self._read_while(lambda: len(self.got) < int(length[1]))
        else:
            while self._receive():
                pass
            self.is_complete = self.is_ended
        if b"\r\nconnection: close\r\n" in self.head:
            self.is_open = False

    def _read_while(self, is_partial):
        while is_partial():
            if not self._receive():
                return
        self.is_complete = True


match_chunked = re.compile(
    rb"(?:0*[1-9a-f][0-9a-f]*(?:;[^\r]*)?\r\n(?:.|\n|\r)*?\r\n)*?0+(?:;[^\r]*)?\r\n(?:[^\r\n]+\r\n)*\r\n", re.IGNORECASE
).match


def read_status(head):
    match = re.match(rb"HTTP/1\.\d (\d\d\d)", head)
    return int(match[1]) if match else 0


def replay_response(case, port, upstream):
    """Have the server play a response of the corpus through a peer; return the record."""
    upstream.call(upstream.start_case, case)
    timer = threading.Timer(QUIET_S, lambda: upstream.call(upstream.end_case))
    is_reset = case.end == "reset" and case.data

    def on_first_bytes():
        if is_reset:
            upstream.call(upstream.end_case)

    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as connection:
        connection.sendall(corpus.join(case.request))
        if is_reset:
            timer.start()
        is_head = case.request[0].startswith("HEAD ")
        response = Response(connection, is_head=is_head, on_first_bytes=on_first_bytes)
        timer.cancel()
        if case.later:
            upstream.call(upstream.send_later)
        is_asking = response.is_complete and response.is_open and case.after != "closed"
        is_poisoned = is_asking and _is_next_poisoned(connection)
    if is_poisoned:
        return "poisoned"
    if not response.status:
        return "raw" if response.has_bytes else "closed"
    if response.status in (502, 503, 504):
        return str(response.status)
    if not response.is_complete:
        return "cut"
    sent = read_final_status(case.data)
    return "forwarded" if response.status == sent else f"forwarded as {response.status}"


def _is_next_poisoned(connection):
    """Ask again on the same connection: whether somebody else's bytes come."""
    try:
        connection.sendall(NEXT)
    except ConnectionError:
        return False
    got = b""
    with contextlib.suppress(ConnectionError):
        while not got.endswith(b"next") and (piece := connection.recv(65536)):
            got += piece
            if len(got) > 4096 or (b"\r\n\r\n" in got and read_status(got) >= 400):
                break
    return bool(got) and not (
        got.startswith(b"HTTP/1.1 ") and (got.endswith(b"\r\n\r\nnext") or read_status(got) >= 500)
    )


def check_records(name, cases, replay, folder):
    """Compare all cases with what is recorded; writes the records anew if asked."""
    found = {case.name: replay(case) for case in cases}
    differing = {
        case.name: f"{getattr(case, name)!r} is recorded, {found[case.name]!r} happens"
        for case in cases
        if found[case.name] not in getattr(case, name).split(" or ")
    }
    if os.environ.get("MAESH_REGENERATE_CASES"):
        for path in sorted((FOLDER / folder).glob("*.toml")):
            path.write_text(write_records(path.read_text(), name, {case: found[case] for case in differing}))
    assert not differing, "\n".join(f"{name}: {text}" for name, text in differing.items())


def write_records(text, peer_name, found):
    """Put what was found into the text of a file of cases."""

    def replace(match):
        if match[1] not in found:
            return match[0]
        return re.sub(rf"(?m)^{peer_name} = .*$", f'{peer_name} = "{found[match[1]]}"', match[0])

    return re.sub(r'(?ms)^name = "([^"]+)"$.*?(?=^\[\[case\]\]$|\Z)', replace, text)


def test_what_a_peer_does_with_requests_is_what_is_recorded(peer, upstream):
    name, port = peer
    check_records(name, corpus.load_requests(), lambda case: replay_request(case, port, upstream), "requests")


def test_what_a_peer_does_with_responses_is_what_is_recorded(peer, upstream):
    name, port = peer
    check_records(name, corpus.load_responses(), lambda case: replay_response(case, port, upstream), "responses")
