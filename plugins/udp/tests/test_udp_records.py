"""Each UDP session has one record, and is counted once for its client, however it ends."""

import pytest

KEY, ENTRYPOINT = "test/dns:53", 15000


class Gate:
    is_open = True

    def on_connect(self, connection):
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
