"""Sends a datagram to a server and answers it, for the tests of sessions."""


async def ask(world, client, port, data=b"?", server="a"):
    """Send a datagram, see it at a server, answer; return the address that the server saw."""
    client.sendto(data, ("127.0.0.1", port))
    got, peer = await world.receive(world.servers[server])
    assert got == data
    world.servers[server].sendto(b"re: " + data[:100], peer)
    assert await world.receive(client) == (b"re: " + data[:100], ("127.0.0.1", port))
    return peer
