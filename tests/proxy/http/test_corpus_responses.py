"""Every response of the corpus through the engine: whole, split at every byte, and byte by byte.

Behind each, the same client asks again and another one too: what they get is theirs, whatever the server had sent.
"""

import pytest

from .corpus_cases import corpus, list_cuts

CASES = corpus.load_responses()
NEXT = b"GET /next HTTP/1.1\r\nHost: a.test.maesh\r\n\r\n"
NEXT_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext"


async def play(world, case, pieces):
    """Ask for the case, and let the server send it and end."""
    client = world.open_client()
    client.send(corpus.join(case.request))
    server = await world.accept()
    server.take()
    for piece in pieces:
        server.send(piece)
        await world.settle()
    if case.later:
        client.expect(corpus.join(case.client))
        assert world.idle == [server.protocol]
        server.send(corpus.join(case.later))
        await world.settle()
    if case.end:
        server.lose(ConnectionResetError() if case.end == "reset" else None)
        await world.settle()
    return client, server


def drop_informational(got):
    while got.startswith(b"HTTP/1.1 1"):
        got = got.partition(b"\r\n\r\n")[2]
    return got


def expect_502(client, *, is_head):
    head, _, body = drop_informational(client.take()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 502 ")
    assert b"Content-Length: %d" % len(body) in head.split(b"\r\n") or (is_head and not body)
    assert not client.is_closed


async def expect_next(world, client):
    """Check that the client gets the answer to its next request, and nothing else."""
    client.send(NEXT)
    await world.settle()
    server = await world.accept() if world.connects else world.servers[0]
    assert server.take().startswith(NEXT[:-2])
    server.send(NEXT_ANSWER)
    await world.settle()
    client.expect(NEXT_ANSWER)


async def expect_forwarded(world, case, client, server):
    client.expect(b"" if case.later else corpus.join(case.client))
    assert world.idle == ([server.protocol] if case.pooled else [])
    assert server.is_closed is not case.pooled
    assert not client.transport.is_reset
    if case.after == "closed":
        assert client.is_closed or client.transport.has_ended
    else:
        assert not client.is_closed
        await expect_next(world, client)


async def expect_refused(world, case, client, server):
    expect_502(client, is_head=case.request[0].startswith("HEAD "))
    assert server.is_closed
    assert not world.idle
    await expect_next(world, client)


async def expect_cut(world, case, client, server):
    client.expect(corpus.join(case.client))
    assert client.transport.is_reset
    assert server.is_closed


async def expect_broken(world, case, client, server):
    """A body that proves malformed: 502 while nothing has gone on, else what was well formed and a reset."""
    assert server.is_closed
    assert not world.idle
    if not client.transport.is_reset:
        await expect_refused(world, case, client, server)
        return
    got = client.take()
    assert got.startswith(b"HTTP/1.1 200 OK\r\n")
    assert case.data.startswith(got)
    assert not got.endswith(b"\r\n0\r\n\r\n")


EXPECT = {
    "forwarded": expect_forwarded,
    "refused": expect_refused,
    "cut": expect_cut,
    "broken": expect_broken,
}


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
@pytest.mark.slow
async def test_a_response_of_the_corpus_has_its_one_outcome_however_it_is_split(open_world, case):
    for pieces in list_cuts(case.data):
        async with open_world() as world:
            client, server = await play(world, case, pieces)
            await EXPECT[case.outcome.partition(" ")[0]](world, case, client, server)
            if not world.idle:
                await expect_next(world, world.open_client())


@pytest.mark.parametrize("case", [case for case in CASES if case.outcome == "broken"], ids=lambda case: case.name)
async def test_a_body_that_is_broken_from_its_first_bytes_on_is_502(open_world, case):
    async with open_world() as world:
        client, server = await play(world, case, [case.data])
        await expect_refused(world, case, client, server)
