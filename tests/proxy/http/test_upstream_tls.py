"""Servers that are spoken to with TLS, over real sockets and uvloop: whom the proxy believes, or what it says."""

import asyncio
import contextlib
import dataclasses
import datetime
import functools
import socket
import ssl

import pytest
import trustme
import uvloop

from maesh_core.model.configuration import HttpRouter, Section, Server, Service
from maesh_core.proxy.http.handler import HttpHandler
from maesh_core.proxy.network.clock import Clock
from maesh_core.settings import CarryingSettings

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
NAME = "cart.shop.svc"


def on_uvloop(test):
    """Run a test in a uvloop of its own."""

    @functools.wraps(test)
    def run(**arguments):
        uvloop.run(asyncio.wait_for(test(**arguments), 100))

    return run


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def root_ca(authority, tmp_path_factory):
    path = tmp_path_factory.mktemp("ca") / "root.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


class TlsServer:
    """A server's certificate, and what its clients said."""

    def __init__(self, certificate):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(self.context)
        self.context.set_alpn_protocols(["http/1.1"])
        self.context.sni_callback = lambda _, name, __: self.names.append(name)
        self.names, self.chosen = [], []

    async def serve(self, reader, writer):
        self.chosen.append(writer.get_extra_info("ssl_object").selected_alpn_protocol())
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
                body = await reader.readexactly(length) if length else b"ok"
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        writer.close()


@contextlib.asynccontextmanager
async def carry(serve, *, context, settings, tls_name=NAME, port=None):
    """Run a proxy before a server; return the handler, and a call that asks for something and gives the answer."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    handler = HttpHandler(settings, Clock(asyncio.get_running_loop()))
    port = port or server.sockets[0].getsockname()[1]
    service = Service(scheme="https", servers=(Server(address="127.0.0.1", port=port, tls_name=tls_name),))
    section = Section(routers={"a": HttpRouter(entrypoint=1, hosts=("a",), service="a")}, services={"a": service})
    handler.apply_table(handler.compile_table(section, middlewares={}, changed=None))
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    listener = await handler.open_listener(listening, 1)

    async def ask(request=GET):
        reader, writer = await asyncio.open_connection(*listening_address)
        writer.write(request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
        try:
            return await reader.read()
        finally:
            writer.close()

    listening_address = listening.getsockname()
    try:
        yield handler, ask
    finally:
        listener.close()
        handler.abort()
        handler.environment.clock.close()
        server.close()
        await server.wait_closed()
        while handler.environment.clients or handler.environment.upstreams:  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0)


def trust(root_ca, **changes):
    return dataclasses.replace(CarryingSettings(root_ca=root_ca), **changes)


def read_reason(answer):
    return answer.partition(b"X-Maesh-Reason: ")[2].partition(b"\r\n")[0].decode()


@on_uvloop
async def test_a_server_with_its_service_s_name_is_believed_and_its_connection_is_pooled(authority, root_ca):
    server = TlsServer(authority.issue_cert(NAME))
    async with carry(server.serve, context=server.context, settings=trust(root_ca)) as (handler, ask):
        for _ in range(3):
            assert (await ask()).endswith(b"\r\n\r\nok")
        assert server.names == [NAME]
        assert server.chosen == ["http/1.1"]
        assert len(handler.environment.upstreams) == 1


@pytest.mark.parametrize(("tls_name", "sent"), [(NAME, NAME), ("", None)])
@on_uvloop
async def test_a_server_with_its_address_is_believed_and_no_address_is_sent_as_a_name(
    authority, root_ca, tls_name, sent
):
    server = TlsServer(authority.issue_cert("127.0.0.1"))
    settings = trust(root_ca)
    async with carry(server.serve, context=server.context, settings=settings, tls_name=tls_name) as (_, ask):
        assert (await ask()).endswith(b"\r\n\r\nok")
        assert server.names == [sent]


@on_uvloop
async def test_bodies_pass_both_ways(authority, root_ca):
    server = TlsServer(authority.issue_cert(NAME))
    async with carry(server.serve, context=server.context, settings=trust(root_ca)) as (_, ask):
        body = bytes(range(256)) * 8192
        answer = await ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        assert answer.partition(b"\r\n\r\n")[2] == body


EXPIRED = datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC)
DISTRUSTED = {
    "of another authority": (lambda _: trustme.CA().issue_cert(NAME), "is not trusted: unable to get local issuer"),
    "for another service": (
        lambda authority: authority.issue_cert("other.shop.svc"),
        f"the upstream's certificate is not for 127.0.0.1 nor for {NAME}",
    ),
    "expired": (
        lambda authority: authority.issue_cert(NAME, not_before=EXPIRED.replace(year=2019), not_after=EXPIRED),
        "is not trusted: certificate has expired",
    ),
}


@pytest.mark.parametrize(("issue", "reason"), DISTRUSTED.values(), ids=DISTRUSTED)
@on_uvloop
async def test_a_certificate_that_is_not_believed_is_502_and_nothing_is_sent(authority, root_ca, issue, reason):
    server = TlsServer(issue(authority))
    heard = []

    async def serve(reader, writer):
        heard.append(await reader.read())
        writer.close()

    async with carry(serve, context=server.context, settings=trust(root_ca)) as (handler, ask):
        answer = await ask()
        assert answer.startswith(b"HTTP/1.1 502 ")
        assert reason in read_reason(answer)
        assert b"".join(heard) == b""
        (pool,) = handler._servers.values()
        assert not pool.idle
        assert pool.aside is not None


@pytest.mark.parametrize("case", DISTRUSTED)
@on_uvloop
async def test_every_certificate_is_believed_where_that_is_asked_for(authority, case):
    server = TlsServer(DISTRUSTED[case][0](authority))
    settings = CarryingSettings(insecure_skip_verify=True)
    async with carry(server.serve, context=server.context, settings=settings) as (_, ask):
        assert (await ask()).endswith(b"\r\n\r\nok")


@on_uvloop
async def test_the_system_s_authorities_are_believed_and_no_others(authority):
    server = TlsServer(authority.issue_cert(NAME))
    async with carry(server.serve, context=server.context, settings=CarryingSettings()) as (_, ask):
        assert "is not trusted" in read_reason(await ask())


@on_uvloop
async def test_a_server_that_speaks_no_tls_is_502(root_ca):
    async def serve(reader, writer):
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with carry(serve, context=None, settings=trust(root_ca)) as (_, ask):
        answer = await ask()
        assert answer.startswith(b"HTTP/1.1 502 ")
        assert read_reason(answer).startswith("the TLS handshake with the upstream failed: ")


@on_uvloop
async def test_a_handshake_that_takes_too_long_is_504_as_a_connect_is(root_ca):
    gone = asyncio.Event()

    async def serve(reader, writer):
        while await reader.read(65536):
            pass
        gone.set()
        writer.close()

    async with carry(serve, context=None, settings=trust(root_ca, connect_timeout=0.5)) as (handler, ask):
        answer = await ask()
        assert answer.startswith(b"HTTP/1.1 504 ")
        assert read_reason(answer) == "connecting to the upstream timed out"
        await gone.wait()
        assert not handler.environment.upstreams


@pytest.mark.parametrize("says_so", [True, False], ids=["with", "without"])
@on_uvloop
async def test_a_body_until_the_close_is_complete_only_if_the_server_says_that_it_closes(authority, root_ca, says_so):
    server = TlsServer(authority.issue_cert(NAME))
    listening = socket.create_server(("127.0.0.1", 0))

    def serve():
        with listening, listening.accept()[0] as raw:
            connection = server.context.wrap_socket(raw, server_side=True)
            connection.recv(65536)
            connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nbody")
            raw = connection.unwrap() if says_so else connection
            raw.close()

    serving = asyncio.create_task(asyncio.to_thread(serve))
    async with carry(server.serve, context=None, settings=trust(root_ca), port=listening.getsockname()[1]) as (_, ask):
        if says_so:
            assert (await ask()).endswith(b"\r\n\r\nbody")
        else:
            with pytest.raises(ConnectionResetError):
                await ask()
        await serving


def test_tls_and_plain_connections_and_those_of_two_names_never_share_a_pool():
    async def list_keys():
        handler = HttpHandler(CarryingSettings(), Clock(asyncio.get_running_loop()))
        servers = {name: (Server(address="10.0.0.1", port=80, tls_name=name),) for name in ("", "a.x.svc", "b.x.svc")}
        services = {
            "plain": Service(servers=servers[""]),
            "nameless": Service(scheme="https", servers=servers[""]),
            **{name: Service(scheme="https", servers=servers[name]) for name in ("a.x.svc", "b.x.svc")},
            "same": Service(scheme="https", servers=servers["a.x.svc"]),
        }
        handler.apply_table(handler.compile_table(Section(services=services), middlewares={}, changed=None))
        handler.abort()
        handler.environment.clock.close()
        return {(key.scheme, key.tls_name): server.uses for key, server in handler._servers.items()}

    assert asyncio.run(list_keys()) == {
        ("http", ""): 1,
        ("https", ""): 1,
        ("https", "a.x.svc"): 2,
        ("https", "b.x.svc"): 1,
    }


async def test_the_event_loop_s_own_limit_of_handshakes_is_above_the_connect_timeout(authority, root_ca, monkeypatch):
    loop = asyncio.get_running_loop()
    start_tls, limits = loop.start_tls, []

    async def record(*arguments, ssl_handshake_timeout, **options):
        limits.append(ssl_handshake_timeout)
        return await start_tls(*arguments, ssl_handshake_timeout=ssl_handshake_timeout, **options)

    monkeypatch.setattr(loop, "start_tls", record)
    server = TlsServer(authority.issue_cert(NAME))
    async with carry(server.serve, context=server.context, settings=trust(root_ca, connect_timeout=90)) as (_, ask):
        assert (await ask()).startswith(b"HTTP/1.1 200 ")
    assert limits == [91.0]
