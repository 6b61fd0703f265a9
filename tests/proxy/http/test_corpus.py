"""Every request of the corpus through the engine: whole, split at every byte, and byte by byte.

Behind a case that is no end of its connection another request is pipelined, so that it shows where the engine saw the
case's end: at the server it comes as a request of its own, or never.
"""

import pytest

from maesh_core.settings import CarryingSettings

from .corpus_cases import corpus, list_cuts

CASES = corpus.load_requests()
PROBE = b"GET /probe HTTP/1.1\r\nHost: a.test.maesh\r\n\r\n"
ANSWER = b"HTTP/1.1 204 No Content\r\nX-Answer: 1\r\n\r\n"


def build_forwarded(upstream):
    """Build the fields that the mesh adds to a request with this Host."""
    authority = upstream.partition(b"\r\nHost:")[2].partition(b"\r\n")[0].strip()
    port = authority.partition(b":")[2] or b"80"
    return (
        b"X-Forwarded-For: 10.0.0.9\r\nX-Forwarded-Host: %b\r\nX-Forwarded-Port: %b\r\nX-Forwarded-Proto: http\r\n"
        b"X-Forwarded-Server: node\r\nX-Real-Ip: 10.0.0.9\r\n" % (authority, port)
    )


def take_all(world):
    return b"".join(server.take() for server in world.servers)


async def deliver(world, client, pieces):
    for piece in pieces:
        client.send(piece)
        await world.settle()
        world.connects = [connect for connect in world.connects if not connect[2].cancelled()]
        while world.connects:
            await world.accept()


def read_answer(client, status):
    """Check that the client got one answer of the mesh, and the end."""
    got = client.take()
    head, _, body = got.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), got
    assert b"Connection: close" in head.split(b"\r\n")
    assert b"Content-Length: %d" % len(body) in head.split(b"\r\n")
    assert client.transport.has_ended or client.is_closed


async def expect_no_more(world, client):
    """Check that nothing which the client still sends has an effect."""
    servers = len(world.servers)
    client.send(PROBE)
    await world.settle()
    assert (client.take(), take_all(world), len(world.servers), world.connects) == (b"", b"", servers, [])


async def expect_refused(world, case, pieces):
    client = world.open_client()
    await deliver(world, client, pieces)
    read_answer(client, case.status)
    assert not world.servers
    await expect_no_more(world, client)


async def expect_cut(world, case, pieces):
    """A server may have got a part of it, but no whole request, and its connection is gone."""
    client = world.open_client()
    await deliver(world, client, pieces)
    if case.end:
        client.end()
        await world.settle()
    if case.status:
        read_answer(client, case.status)
    else:
        client.expect(b"")
        assert client.is_closed
    assert all(server.is_closed for server in world.servers)
    assert not world.idle
    begun = take_all(world)
    assert b"/probe" not in begun
    _, _, body = begun.partition(b"\r\n\r\n")
    assert case.data.partition(b"\r\n\r\n")[2].startswith(body)
    assert not body.endswith(b"0\r\n\r\n")
    assert len(world.servers) <= 1
    await expect_no_more(world, client)


async def expect_answered(world, case, pieces):
    client = world.open_client()
    await deliver(world, client, pieces)
    assert not take_all(world)
    if case.after == "closed":
        read_answer(client, case.status)
        await expect_no_more(world, client)
        return
    assert client.take().startswith(b"HTTP/1.1 %d " % case.status)
    await expect_after(world, case, client)


async def expect_forwarded(world, case, pieces):
    client = world.open_client()
    await deliver(world, client, pieces)
    wanted = corpus.join(case.upstream)
    (server,) = world.servers
    server.expect(wanted.replace(corpus.FORWARDED, build_forwarded(wanted)))
    client.expect(b"")
    server.send(ANSWER)
    await expect_after(world, case, client, is_answered=True)


async def expect_after(world, case, client, *, is_answered=False):
    """Check what becomes of what is behind the case."""
    answer = client.take()
    if is_answered:
        field = b"Connection: close\r\n" if case.after == "closed" else b""
        if b" HTTP/1.0\r\n" in case.data and case.after == "open":
            field = b"Connection: keep-alive\r\n"
        head = ANSWER[:-2] + field + b"\r\n"
        assert answer.startswith(head), answer
        client.transport.sent += answer[len(head) :]
    if case.after == "closed":
        assert client.is_closed or client.transport.has_ended
        await expect_no_more(world, client)
    elif case.after == "open":
        assert not client.is_closed
        client.expect(b"")
        client.send(PROBE)
        await world.settle()
        world.connects = [connect for connect in world.connects if not connect[2].cancelled()]
        while world.connects:
            await world.accept()
        assert take_all(world).startswith(PROBE[:-2])
        assert len(world.servers) == 1
    else:
        read_answer(client, int(case.after.rpartition(" ")[2]))
        assert not take_all(world)
        await expect_no_more(world, client)


EXPECT = {
    "refused": expect_refused,
    "cut": expect_cut,
    "closed": expect_cut,
    "answered": expect_answered,
    "forwarded": expect_forwarded,
}


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
@pytest.mark.slow
async def test_a_request_of_the_corpus_has_its_one_outcome_however_it_is_split(open_world, case):
    settings = CarryingSettings(node="node", http2=not case.data.startswith(b"PRI "))  # its preface would be accepted
    for pieces in list_cuts(case.data):
        async with open_world(settings=settings) as world:
            await EXPECT[case.outcome.partition(" ")[0]](world, case, pieces)
