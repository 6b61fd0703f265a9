"""What is counted of TCP connections: bytes, connections, servers and branches."""

import asyncio

from maesh_core.model.configuration import Part, Section, Server, Service, StreamRouter
from maesh_testing import find_free_port

from .conftest import (
    ENTRYPOINT,
    apply,
    ask,
    build_section,
    echo_whole,
    read_counter,
    wait_drained,
)


async def test_bytes_are_counted_while_a_connection_is_open(handler, address, start_server):
    async def echo_lines(reader, writer):
        while line := await reader.readline():
            writer.write(line * 2)

    apply(handler, build_section(await start_server(echo_lines)))
    reader, writer = await asyncio.open_connection(*address)
    for count in (1, 2):
        writer.write(b"1234\n")
        assert await reader.readexactly(10) == b"1234\n" * 2
        assert read_counter(handler, "received_bytes") == count * 5
        assert read_counter(handler, "sent_bytes") == count * 10
    writer.close()
    await wait_drained(handler)
    assert read_counter(handler, "received_bytes") == 10


def read_samples(handler, name):
    (family,) = [each for each in handler.collect_metrics() if each.name == f"maesh_tcp_{name}"]
    return dict(family.samples)


async def test_connections_and_bytes_count_for_their_servers_and_branches(handler, address, start_server):
    first, second = [await start_server(echo_whole) for _ in range(2)]
    closed = find_free_port()
    parts = {"v1": [first], "v2": [closed, second]}
    services = {
        name: Service(servers=tuple(Server(address="127.0.0.1", port=port) for port in ports))
        for name, ports in parts.items()
    }
    services["a/b:1"] = Service(parts=(Part(service="v1", weight=1), Part(service="v2", weight=1)))
    routers = {"a/b:1": StreamRouter(entrypoint=ENTRYPOINT, service="a/b:1")}
    apply(handler, Section(routers=routers, services=services))
    assert [await ask(address, b"abc") for _ in range(4)] == [b"got abc"] * 4
    await wait_drained(handler)
    labels = {port: (f"127.0.0.1:{port}",) for port in (first, second, closed)}
    failed = read_counter(handler, "failed_connects")
    assert failed >= 1
    assert {values: count for values, count in read_samples(handler, "server_connections").items() if count} == {
        labels[first]: 2,
        labels[second]: 2,
    }
    assert read_samples(handler, "server_failed_connects")[labels[closed]] == failed
    assert read_samples(handler, "server_received_bytes")[labels[first]] == 6
    assert read_samples(handler, "server_sent_bytes")[labels[second]] == 14
    assert read_samples(handler, "branch_connections") == {("a/b:1", "v1"): 2, ("a/b:1", "v2"): 2}
    assert read_samples(handler, "branch_failed_connects") == {("a/b:1", "v1"): 0, ("a/b:1", "v2"): failed}
    assert read_samples(handler, "branch_sent_bytes") == {("a/b:1", "v1"): 14, ("a/b:1", "v2"): 14}
    assert read_samples(handler, "server_aside") == {labels[closed]: 1}


async def test_bytes_of_an_open_connection_count_once_however_often_they_are_collected(handler, address, start_server):
    async def echo_lines(reader, writer):
        while line := await reader.readline():
            writer.write(line)

    apply(handler, build_section(await start_server(echo_lines)))
    reader, writer = await asyncio.open_connection(*address)
    for total in (5, 10):
        writer.write(b"line\n")
        assert await reader.readline() == b"line\n"
        for _ in range(2):
            assert read_counter(handler, "server_received_bytes") == read_counter(handler, "received_bytes") == total
            assert read_counter(handler, "server_sent_bytes") == read_counter(handler, "sent_bytes") == total
    writer.close()
    await writer.wait_closed()
    await wait_drained(handler)
    assert read_counter(handler, "server_received_bytes") == 10
    assert read_counter(handler, "server_connections") == 1
