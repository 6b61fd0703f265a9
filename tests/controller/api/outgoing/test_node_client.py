"""Proxies that answer well, badly, elsewhere or never."""

import asyncio
import gzip
import json

import pytest

from maesh_core.controller.api.nodes import AdminAddress
from maesh_core.controller.api.outgoing.node_client import NodeClient
from maesh_core.controller.api.security.protection import Protection
from maesh_core.errors import NodeUnreachableError
from maesh_core.model.messages import NodeReport
from maesh_core.plain_http.messages import Response

STATUS = {"revision": None, "ready": False, "workers": 0, "engine": "pure", "refused": []}
WHOLE = {"revision": "e.1", "full": True, "plugins": [], "http": {"routers": {}}}


@pytest.fixture
async def build_client():
    clients = []

    def build(**limits):
        clients.append(NodeClient(**limits))
        return clients[-1]

    yield build
    for client in clients:
        await client.close()


@pytest.fixture
def start_proxy(serve):
    """Serve one answer to everything; return the address and the requests that came."""

    async def start(body=b"", status=200, headers=None):
        requests = []

        async def handle(request):
            requests.append(request)
            fields = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
            return Response(status=status, body=body, fields=fields)

        url, _ = await serve(handle)
        return AdminAddress("127.0.0.1", int(url.rpartition(":")[2])), requests

    return start


def report(address):
    return NodeReport(name="node-1", ip=address.ip, ready=True, revision="e.1", last_seen="", admin_port=address.port)


async def fail(client, address):
    with pytest.raises(NodeUnreachableError) as caught:
        await client.fetch_configuration(address)
    return str(caught.value)


async def test_a_whole_configuration_is_given_as_it_came(build_client, start_proxy, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    body = json.dumps(WHOLE).encode()
    address, requests = await start_proxy(body)
    client = build_client()
    assert await client.fetch_configuration(address) == body
    assert await client.fetch_configuration(AdminAddress(f"::ffff:{address.ip}", address.port)) == body
    assert [request.target for request in requests] == [b"/configuration"] * 2


async def test_an_ipv6_address_is_bracketed(build_client):
    async def answer(reader, writer):
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        body = json.dumps(WHOLE).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        await writer.drain()
        writer.close()

    heads = []
    try:
        server = await asyncio.start_server(answer, "::1", 0)
    except OSError:
        pytest.skip("no IPv6 here")
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert json.loads(await build_client().fetch_configuration(AdminAddress("::1", port))) == WHOLE
    assert f"Host: [::1]:{port}\r\n".encode() in heads[0]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"garbage",
        b"null",
        b"[]",
        b"{}",
        b'{"revision": 1, "full": true}',
        b'{"revision": "e.1", "full": false}',
        b'{"revision": "e.1", "full": true} x',
        b'{"revision": "e.1", "full": true',
        b'{"revision": "e.1", "full": true, "x": "\xff"}',
        b'{"revision": "e.1", "full": true, "x": ' + b"[" * 100_000,
    ],
)
async def test_what_is_no_whole_configuration_is_not_passed_on(build_client, start_proxy, body):
    address, _ = await start_proxy(body)
    assert await fail(build_client(), address) == "the proxy's answer is not a configuration"


async def test_a_compressed_answer_is_not_unpacked(build_client, start_proxy):
    body = gzip.compress(json.dumps(WHOLE).encode())
    address, _ = await start_proxy(body, headers={"Content-Encoding": "gzip"})
    assert await fail(build_client(), address) == "the proxy's answer is not a configuration"


@pytest.mark.parametrize("status", [204, 404, 500, 503])
async def test_another_status_is_reported(build_client, start_proxy, status):
    address, _ = await start_proxy(status=status)
    assert await fail(build_client(), address) == f"the proxy answered {status}"


async def test_a_redirect_is_not_followed(build_client, start_proxy):
    elsewhere, asked = await start_proxy(json.dumps(WHOLE).encode())
    location = f"http://127.0.0.1:{elsewhere.port}/configuration"
    address, _ = await start_proxy(status=302, headers={"Location": location})
    assert await fail(build_client(), address) == "the proxy answered 302"
    assert asked == []


async def test_an_answer_above_the_limit_is_refused(build_client, start_proxy):
    body = json.dumps(WHOLE).encode()
    address, _ = await start_proxy(body)
    assert await build_client(limit_bytes=len(body)).fetch_configuration(address) == body
    text = await fail(build_client(limit_bytes=len(body) - 1), address)
    assert text == f"the proxy's answer is larger than {len(body) - 1} bytes"


async def test_a_proxy_that_is_gone_cannot_be_reached(build_client, serve):
    async def handle(_):
        return Response(status=200)

    url, server = await serve(handle)
    await server.close()
    text = await fail(build_client(), AdminAddress("127.0.0.1", int(url.rpartition(":")[2])))
    assert text == "the proxy cannot be reached"


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"])
async def test_what_is_not_http_or_cut_short_is_reported_without_its_bytes(build_client, answer):
    async def cut(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(cut, "127.0.0.1", 0) as server:
        text = await fail(build_client(), AdminAddress("127.0.0.1", server.sockets[0].getsockname()[1]))
    assert text == "the proxy's answer is incomplete or not HTTP"


async def test_a_proxy_that_does_not_answer_is_given_up(build_client, serve):
    never = asyncio.Event()

    async def handle(_):
        await never.wait()

    url, _ = await serve(handle)
    text = await fail(build_client(timeout_s=0.05), AdminAddress("127.0.0.1", int(url.rpartition(":")[2])))
    assert text == "the proxy did not answer within 0.05 s"


@pytest.mark.parametrize("ip", ["", "localhost", "127.0.0.1:80", "127.0.0.1/x", "a@127.0.0.1", "::1]"])
async def test_what_is_no_address_is_never_asked(build_client, ip):
    assert await fail(build_client(), AdminAddress(ip, 80)) == "the proxy's address is not known"


async def test_a_proxy_that_reported_no_port_is_not_asked(build_client):
    assert await fail(build_client(), AdminAddress("127.0.0.1", None)) == "the proxy did not report its admin port"


async def test_the_traffic_of_a_proxy_is_fetched_from_its_page(build_client, start_proxy):
    body = b'{"interval_s": 7.5, "now": []}'
    address, requests = await start_proxy(body)
    assert await build_client().fetch_traffic(report(address), limit_bytes=len(body)) == body
    assert [request.target for request in requests] == [b"/traffic"]


@pytest.mark.parametrize(("given", "own"), [(9, 1000), (1000, 9)])
async def test_traffic_above_either_limit_is_refused(build_client, start_proxy, given, own):
    address, _ = await start_proxy(b" " * 10)
    with pytest.raises(NodeUnreachableError, match="the proxy's answer is larger than 9 bytes"):
        await build_client(limit_bytes=own).fetch_traffic(report(address), limit_bytes=given)


async def test_a_status_is_passed_on_and_nothing_else(start_proxy, build_client):
    address, requests = await start_proxy(json.dumps(STATUS).encode())
    assert json.loads(await build_client().fetch_status(address)) == STATUS
    assert [request.target for request in requests] == [b"/status"]
    for body in (b"[]", b"{}", b"\xff", json.dumps(WHOLE).encode(), json.dumps({**STATUS, "ready": 1}).encode()):
        address, _ = await start_proxy(body)
        with pytest.raises(NodeUnreachableError, match="the proxy's answer is not a status"):
            await build_client().fetch_status(address)


async def test_a_proxy_with_tls_is_not_asked_without_a_certificate(start_proxy, build_client):
    address, requests = await start_proxy(json.dumps(WHOLE).encode())
    client = build_client(secure=Protection().secure_node)
    with pytest.raises(NodeUnreachableError, match="needs TLS, for which this controller has no certificate"):
        await client.fetch_configuration(AdminAddress(address.ip, address.port, "node-a"))
    assert requests == []
