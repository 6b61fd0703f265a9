"""The script in a real server, against the model in Python; its answers, which are untrusted."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from maesh_ratelimit.redis_settings import parse_redis_url
from maesh_ratelimit.redis_store.connection import RedisLink
from maesh_ratelimit.redis_store.script import (
    DUE_LIMIT_US,
    NODES_LIMIT,
    SCRIPT,
    AnswerError,
    Grant,
    Question,
    build_arguments,
    parse_answer,
)

from .redis_model import ModelRedis

QUESTION = Question(b"k", 5, 0, 10, 10_000.0, 0.0)


def test_the_arguments_are_the_keys_and_five_values_for_each_bucket():
    keys, arguments = build_arguments(b"maesh:", b"node", [QUESTION], is_heartbeat=True)
    assert keys == [b"maesh:nodes", b"maesh:k"]
    assert arguments == [b"node", b"1", b"5000", b"5", b"0", b"10", b"10000.0", b"0.0"]


def test_an_answer_has_the_nodes_and_four_numbers_for_each_bucket():
    assert parse_answer([3, 5, 0, 2_000_000, 7], [QUESTION]) == (3, [Grant(5, 0.0, 2.0, 7)])


def test_the_number_of_nodes_is_limited():
    assert [parse_answer([nodes], [])[0] for nodes in (0, 10**12)] == [1, NODES_LIMIT]


@pytest.mark.parametrize(
    "answer",
    [
        None,
        b"OK",
        [],
        [1],
        [1, 5, 0, 0],
        [1, 5, 0, 0, 0, 0],
        [1, 6, 0, 0, 0],
        [1, -1, 0, 0, 0],
        [1, 5, 2, 0, 0],
        [1, 5, 0, DUE_LIMIT_US + 1, 0],
        [1, b"5", 0, 0, 0],
        [1, [5], 0, 0, 0],
        [True, 5, 0, 0, 0],
        [1, 5.0, 0, 0, 0],
    ],
)
def test_any_other_answer_is_an_error(answer):
    with pytest.raises(AnswerError):
        parse_answer(answer, [QUESTION])


@given(st.lists(st.one_of(st.integers(), st.binary(), st.none(), st.floats())))
def test_whatever_the_server_answers_never_grants_more_than_was_asked(answer):
    try:
        _, (grant,) = parse_answer(answer, [QUESTION])
    except AnswerError:
        return
    assert 0 <= grant.granted <= 5


STEPS = [
    Question(b"k", 3, 0, 10, 3_600e6, 0.0),
    Question(b"k", 20, 0, 10, 3_600e6, 0.0),
    Question(b"k", 1, 0, 10, 3_600e6, 0.0),
    Question(b"k", 1, 0, 10, 3_600e6, 3_700e6),
    Question(b"k", 0, 4, 10, 3_600e6, 0.0),
    Question(b"k", 2, 0, 10, 3_600e6, 0.0),
    Question(b"k", 0, 100, 10, 3_600e6, 0.0),
    Question(b"k", 11, 0, 10, 3_600e6, 0.0),
    Question(b"large", 10**9, 0, 10**9, 1e-3, 0.0),
    Question(b"slow", 1, 0, 1, 1e306, 0.0),
    Question(b"slow", 1, 0, 1, 1e306, 0.0),
]
"""Intervals are so long that the time between two steps is less than a thousandth of a token, or so short that it does
not matter."""


@pytest.mark.peer
async def test_the_script_does_what_the_model_does(redis_server):
    link = build_link(redis_server)
    await link.connect()
    model = ModelRedis()
    for question in STEPS:
        _, (found,) = await link.ask([question], is_heartbeat=False)
        _, (expected,) = parse_answer([1, *model.run([question])], [question])
        assert (found.granted, found.left) == (expected.granted, expected.left), question
        assert math.isclose(found.due_s, expected.due_s, rel_tol=0.01, abs_tol=1.0)
    await link.close()


@pytest.mark.peer
async def test_a_bucket_that_is_full_again_leaves_no_key_and_others_expire(redis_server):
    link = build_link(redis_server)
    await link.connect()
    await link.ask([QUESTION._replace(asked=5, interval_us=1e6)], is_heartbeat=False)
    ttl_ms = await run(link, b"PTTL", b"test:k")
    assert 1000 < ttl_ms <= 6000
    await link.ask([QUESTION._replace(asked=0, returned=5, interval_us=1e6)], is_heartbeat=False)
    assert await run(link, b"EXISTS", b"test:k") == 0
    await link.close()


@pytest.mark.peer
async def test_nodes_count_while_they_send_heartbeats(redis_server):
    first, second = build_link(redis_server, node="a"), build_link(redis_server, node="b")
    assert [await first.connect(), await second.connect()] == [1, 2]
    await run(first, b"ZADD", b"test:nodes", b"5", b"a")
    assert await second.ask([], is_heartbeat=True) == (1, [])
    assert await first.ask([], is_heartbeat=True) == (2, [])
    await first.close()
    await second.close()


def build_link(server, *, node="a", **options):
    return RedisLink(parse_redis_url(server.url), node=node, prefix="test:", timeout_s=30.0, **options)


async def run(link, *words):
    """Run another command over the connection of a link."""
    await link._connection.send_command(*words)
    return await link._connection.read_response()


def test_the_script_has_no_characters_that_a_line_of_the_protocol_could_not_have():
    assert SCRIPT.isascii()
