"""Connections through a real mesh."""

import asyncio
import socket

import pytest
from maesh_blank.proxy import BlankHandler

from maesh_core.plugin import Section, Server, Service, StreamRouter
from maesh_testing import FakeNode, find_free_port, send_request


@pytest.fixture
def start_carried(start_mesh):
    """Start a mesh whose service is carried by this protocol; return it, and the port that leads to the service."""

    def start(servers=1):
        settings = (f"blank.first-port={find_free_port(first=17000, last=19999)}", "blank.limit=1")
        flags = [word for setting in settings for word in ("--set", setting)]
        mesh = start_mesh("--blank", *flags, annotations={"traffic-type": "blank"}, servers=servers)
        (port,) = mesh.describe_service()["ports"]
        return mesh, port["entrypoint"]

    return start


def test_connections_go_to_the_servers_in_turn(start_carried):
    _, port = start_carried(servers=2)
    answers = [send_request(port).text for _ in range(20)]
    assert set(answers) == {"app-1", "app-2"}


def test_a_server_that_is_gone_is_passed_over(start_carried):
    mesh, port = start_carried(servers=2)
    mesh.upstreams[0].close()
    assert {send_request(port).text for _ in range(20)} == {"app-2"}


def test_the_connections_are_counted(start_carried):
    mesh, port = start_carried()
    assert send_request(port).status == 200
    assert 'maesh_blank_connections_total{service="test/app:80"} 1.0' in mesh.read_metrics()


class Gate:
    """A middleware that says who may connect, and who may stay."""

    def __init__(self, *, is_open):
        self.is_open = is_open

    def on_connect(self, connection):
        return self.is_open

    def is_still_allowed(self, connection):
        return self.is_open


def build_section(server):
    service = Service(servers=(Server(address=server.address, port=server.port),))
    router = StreamRouter(entrypoint=17000, service="test/app:80", middlewares=("gate",))
    return Section(routers={"test/app:80": router}, services={"test/app:80": service})


@pytest.mark.parametrize("is_open", [True, False])
def test_a_middleware_says_who_may_connect_and_who_may_stay(start_upstream, is_open):
    section = build_section(start_upstream("app"))

    def apply(handler, gate):
        handler.apply_table(handler.compile_table(section, middlewares={"gate": gate}, changed=None))

    async def run():
        handler = BlankHandler(FakeNode())
        apply(handler, Gate(is_open=is_open))
        sock = socket.create_server(("127.0.0.1", 0))
        sock.setblocking(False)
        listener = await handler.open_listener(sock, 17000)
        reader, writer = await asyncio.open_connection(*sock.getsockname())
        if is_open:
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert await reader.read(8) == b"HTTP/1.1"
            assert not handler.is_drained()
            apply(handler, Gate(is_open=False))
        await reader.read()  # to the end
        writer.close()
        listener.close()
        await asyncio.sleep(0)
        assert handler.is_drained()

    asyncio.run(run())
