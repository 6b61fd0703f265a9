"""Each UDP session has one record, and is counted once for its client, however it ends."""

import pytest

from maesh_core.plugin import ENTRYPOINT_CLOSED, EVICTED, PROXY_ENDED, SERVER_REMOVED

KEY, ENTRYPOINT = "test/dns:53", 15000


class Gate:
    is_open = True

    def on_connect(self, connection):
        connection.would_deny = "no rule"
        return True

    def is_still_allowed(self, connection):
        return self.is_open


async def start_session(world, middlewares=None):
    port = await world.listen()
    world.serve("blue", middlewares=middlewares)
    client, server = world.open(), world.servers["blue"]
    client.sendto(b"question", ("127.0.0.1", port))
    _, peer = await world.receive(server)
    server.sendto(b"answer", peer)
    await world.receive(client)
    return server.getsockname()


@pytest.mark.parametrize("reason", ["", "access denied"])
async def test_a_session_has_one_record_with_the_reason_of_its_end(world, reason):
    gate = Gate()
    host, port = await start_session(world, [gate])
    assert world.node.records == []
    if reason:
        gate.is_open = False
        world.serve("blue", "green", middlewares=[gate])
    else:
        world.node.pass_time(10_000)
    (record,) = world.node.records
    wanted = {
        "kind": "udp",
        "client": "127.0.0.1",
        "entrypoint": ENTRYPOINT,
        "protocol": "UDP",
        "service": KEY,
        "destination": KEY,
        "server": f"{host}:{port}",
        "attempts": 1,
        "status": 0,
        "reason": reason,
        "received_bytes": len(b"question"),
        "sent_bytes": len(b"answer"),
        "would_deny": "no rule",
    }
    assert {name: getattr(record, name) for name in wanted} == wanted
    assert world.node.calls == {("127.0.0.1", KEY): 1}
    assert (world.count("sessions"), world.count("closed_sessions")) == (1, 1)


async def test_a_session_whose_server_is_unreachable_and_its_successor_have_a_record_each(world):
    port = await world.listen()
    closed = world.open()
    gone = closed.getsockname()
    closed.close()
    blue = world.open()
    world.route([gone, blue.getsockname()])
    client = world.open()
    client.sendto(b"question", ("127.0.0.1", port))
    await world.receive(blue)
    world.node.pass_time(10_000)
    servers = {record.server: record.reason for record in world.node.records}
    assert servers[f"127.0.0.1:{blue.getsockname()[1]}"] == ""
    assert set(servers.values()) <= {"", "the server is unreachable"}
    assert len(world.node.records) == world.count("sessions") == world.node.calls["127.0.0.1", KEY]


async def ask_many(world, client, port, count):
    for _ in range(count):
        client.sendto(b"question", ("127.0.0.1", port))
    peers = [(await world.receive(world.servers["blue"]))[1] for _ in range(count)]
    for peer in peers:
        world.servers["blue"].sendto(b"an answer", peer)
    for _ in range(count):
        await world.receive(client)


@pytest.mark.parametrize("count", [1, 5, 40])
async def test_bytes_of_records_add_up_to_the_counters_of_the_service(world, count):
    port = await world.listen()
    world.serve("blue")
    for client in (world.open(), world.open()):
        await ask_many(world, client, port, count)
    world.node.pass_time(10_000)
    assert [(each.received_bytes, each.sent_bytes) for each in world.node.records] == [(8 * count, 9 * count)] * 2
    assert (world.count("received_bytes"), world.count("sent_bytes")) == (2 * 8 * count, 2 * 9 * count)


async def test_datagrams_that_are_sent_to_another_server_count_for_its_session_only(world):
    port = await world.listen()
    closed = world.open()
    gone = closed.getsockname()
    closed.close()
    blue = world.open()
    world.route([gone, blue.getsockname()])
    client = world.open()
    client.sendto(b"question", ("127.0.0.1", port))
    await world.receive(blue)
    world.node.pass_time(10_000)
    assert sum(record.received_bytes for record in world.node.records) == world.count("received_bytes") == 8


async def end_by_eviction(world):
    client = world.open()
    client.sendto(b"question", ("127.0.0.1", world.listeners[0]._sock.getsockname()[1]))
    await world.receive(world.servers["blue"])


async def end_by_removed_server(world):
    world.serve("green")
    world.node.pass_time(2)


async def end_by_closed_entrypoint(world):
    world.listeners[0].close()
    world.node.pass_time(2)


async def end_by_abort(world):
    world.handler.abort()


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (end_by_eviction, EVICTED),
        (end_by_removed_server, SERVER_REMOVED),
        (end_by_closed_entrypoint, ENTRYPOINT_CLOSED),
        (end_by_abort, PROXY_ENDED),
    ],
)
async def test_a_session_that_the_proxy_ends_says_why(build_world, end, reason):
    world = build_world(session_limit=1)
    await start_session(world)
    await end(world)
    assert [record.reason for record in world.node.records] == [reason]


@pytest.mark.parametrize("encryption", ["off", "permissive"])
async def test_sessions_of_a_service_with_encryption_count_as_sent_in_clear(world, encryption):
    port = await world.listen()
    server, client = world.open(), world.open()
    world.route([server.getsockname()], encryption=encryption)
    client.sendto(b"question", ("127.0.0.1", port))
    _, peer = await world.receive(server)
    server.sendto(b"answer", peer)
    await world.receive(client)
    world.handler.collect_metrics()
    expected = {("test/dns:53", "sessions"): 1, ("test/dns:53", "bytes"): 14} if encryption != "off" else {}
    assert world.node.uncarried == expected
    world.node.pass_time(10_000)
    assert world.node.uncarried == expected
    (record,) = world.node.records
    assert (record.server_path, record.server_node) == (("clear", "other") if expected else ("", ""))
