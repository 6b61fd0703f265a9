"""Prometheus' HTTP API, and what answers instead of it."""

import asyncio
import contextlib
import json
import math
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.controller.traffic.prometheus_client import HttpPrometheusClient, _parse_rows
from maesh_core.errors import SettingsError, TrafficUnavailableError

from ...proxy.node.in_process_proxy import LoopbackServer


def build_answer(*rows, **more):
    result = [{"metric": labels, "value": [1.5, value]} for labels, value in rows]
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}, **more}).encode()


class Prometheus(LoopbackServer):
    """Answers every query with the same bytes."""

    def __init__(self):
        super().__init__()
        self.body, self.status, self.raw = build_answer(), 200, None
        self.gate = asyncio.Event()
        self.gate.set()

    async def answer(self, head):
        await self.gate.wait()
        if self.raw is not None:
            return self.raw
        return b"HTTP/1.1 %d X\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (
            self.status,
            len(self.body),
            self.body,
        )


@pytest.fixture
async def prometheus():
    server = Prometheus()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def build_client(prometheus):
    clients = []

    def build(url=None, **limits):
        clients.append(HttpPrometheusClient(url or f"http://127.0.0.1:{prometheus.port}", **limits))
        return clients[-1]

    yield build
    for client in clients:
        await client.close()


async def fail(client):
    with pytest.raises(TrafficUnavailableError) as caught:
        await client.query("up")
    return str(caught.value)


async def test_rows_have_labels_and_values(build_client, prometheus):
    prometheus.body = build_answer(({"a": "b"}, "12.5"), ({}, "NaN"), ({}, "+Inf"))
    first, second, third = await build_client().query("up")
    assert first == ({"a": "b"}, 12.5)
    assert math.isnan(second[1])
    assert third == ({}, math.inf)


@pytest.mark.parametrize("path", ["", "/", "/prometheus", "/prometheus/"])
async def test_a_query_is_posted_below_the_path_of_the_url(build_client, prometheus, path):
    await build_client(f"http://me:secret@127.0.0.1:{prometheus.port}{path}").query('up{a="b"}')
    (head,) = prometheus.requests
    assert head.startswith(f"POST {path.rstrip('/')}/api/v1/query HTTP/1.1\r\n")
    assert "Authorization: Basic bWU6c2VjcmV0" in head


@pytest.mark.parametrize(
    "url",
    ["prometheus", "localhost:9090", "ftp://x", "http://", "http:///x", "http://x?y=1", "http://x#y", "http://x y"],
)
def test_what_is_not_a_url_stops_the_start(url):
    with pytest.raises(SettingsError, match="is not a URL such as"):
        HttpPrometheusClient(url)


async def test_a_client_never_shows_its_url_which_may_have_a_password():
    assert "secret" not in repr(HttpPrometheusClient("http://me:secret@x"))


async def test_an_error_of_prometheus_is_shown(build_client, prometheus):
    prometheus.status, prometheus.body = 400, b'{"status": "error", "error": "parse error:\\u001b bad"}'
    assert await fail(build_client()) == "Prometheus (--prometheus) refused a query with status 400: parse error:  bad"
    prometheus.body = json.dumps({"status": "error", "error": "x" * 1000}).encode()
    assert len(await fail(build_client())) < 300


@pytest.mark.parametrize(
    ("status", "body", "text"),
    [
        (200, b"<html>", "the answer is not one of its API; does the URL lead to Prometheus?"),
        (404, b"not found", "the answer has status 404; does the URL lead to Prometheus?"),
        (401, b"", "the answer has status 401; does the URL lead to Prometheus?"),
        (302, b"", "the answer has status 302; does the URL lead to Prometheus?"),
        (200, b'{"status": "success"}', "the answer is not one of its API; does the URL lead to Prometheus?"),
        (
            200,
            b'{"status": "success", "data": {"resultType": "matrix", "result": []}}',
            "the answer is not one of its API; does the URL lead to Prometheus?",
        ),
    ],
)
async def test_what_is_not_prometheus_is_reported(build_client, prometheus, status, body, text):
    prometheus.status, prometheus.body = status, body
    assert await fail(build_client()) == f"Prometheus (--prometheus): {text}"


async def test_an_answer_above_the_limit_is_refused(build_client, prometheus):
    limit = len(prometheus.body)
    assert await build_client(limit_bytes=limit).query("up") == []
    text = f"Prometheus (--prometheus): the answer is larger than {limit - 1} bytes"
    assert await fail(build_client(limit_bytes=limit - 1)) == text


async def test_one_that_does_not_answer_is_given_up(build_client, prometheus):
    prometheus.gate.clear()
    assert await fail(build_client(timeout_s=0.05)) == "Prometheus (--prometheus) did not answer within 0.05 s"


@pytest.mark.parametrize("raw", [b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"])
async def test_what_is_not_http_or_cut_short_is_reported(build_client, prometheus, raw):
    async def cut(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(raw)
        writer.close()

    async with await asyncio.start_server(cut, "127.0.0.1", 0) as server:
        text = await fail(build_client(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"))
    assert text == "Prometheus (--prometheus): the answer is incomplete or not HTTP"


async def test_one_that_is_gone_cannot_be_reached(build_client, prometheus):
    client = build_client()
    await prometheus.stop()
    assert await fail(client) == "Prometheus (--prometheus) cannot be reached: Connection refused"


async def test_the_query_is_sent_as_a_form(build_client):
    async def answer(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        forms.append(parse_qs((await reader.readexactly(length)).decode()))
        body = build_answer()
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        writer.close()

    forms = []
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        await build_client(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}").query('up{a="&"}')
    assert forms == [{"query": ['up{a="&"}'], "timeout": ["10s"]}]


JSON = st.recursive(
    st.none() | st.booleans() | st.floats(-1e9, 1e9) | st.integers() | st.text(max_size=5),
    lambda each: (
        st.lists(each, max_size=3)
        | st.dictionaries(
            st.sampled_from(["status", "data", "resultType", "result", "metric", "value"]), each, max_size=4
        )
    ),
    max_leaves=12,
)


@given(st.sampled_from([200, 400]), st.one_of(st.binary(), JSON.map(lambda each: json.dumps(each).encode())))
def test_any_answer_is_read_or_refused(status, body):
    with contextlib.suppress(TrafficUnavailableError):
        assert isinstance(_parse_rows(status, body), list)


@given(st.lists(JSON, max_size=4))
def test_rows_that_cannot_be_read_are_left_out(rows):
    body = {"status": "success", "data": {"resultType": "vector", "result": rows}}
    for labels, value in _parse_rows(200, json.dumps(body).encode()):
        assert isinstance(labels, dict)
        assert isinstance(value, float)
