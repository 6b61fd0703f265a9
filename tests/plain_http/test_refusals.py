"""RefusalLog are counted, and only the first ones are logged."""

from maesh_core.plain_http.refusals import LINES_LIMIT, SENDERS_LIMIT, RefusalLog


def build(clock):
    return RefusalLog(lambda: clock[0])


def test_a_refusal_of_a_sender_is_logged_once_in_a_minute(caplog):
    clock = [0.0]
    refusals = build(clock)
    for _ in range(3):
        refusals.note("10.0.0.1", "token", "why")
    refusals.note("10.0.0.1", "node", "why")
    assert len(caplog.records) == 2
    clock[0] = 60.0
    refusals.note("10.0.0.1", "token", "why")
    assert len(caplog.records) == 3
    assert refusals.list_counts() == ((("node",), 1), (("token",), 4))


def test_nodes_behind_one_address_are_senders_of_their_own(caplog):
    refusals = build([0.0])
    for node in ("a", "b", "a"):
        refusals.note("10.0.0.1", "token", "why", node=node)
    assert caplog.messages == [f"a request from 10.0.0.1 for node {node} was refused: why" for node in ("a", "b")]


def test_many_senders_cannot_fill_the_log(caplog):
    refusals = build([0.0])
    for number in range(LINES_LIMIT * 3):
        refusals.note(f"10.0.0.{number}", "token", "why")
    assert len(caplog.records) == LINES_LIMIT
    assert refusals.list_counts() == ((("token",), LINES_LIMIT * 3),)


def test_bad_tokens_are_counted_for_a_minute_and_for_a_limited_number_of_senders():
    clock = [0.0]
    refusals = build(clock)
    for number in range(SENDERS_LIMIT + 10):
        refusals.note_bad_token(str(number))
    refusals.note_bad_token("0")
    assert (refusals.count_bad_tokens("0"), refusals.count_bad_tokens(str(SENDERS_LIMIT + 1))) == (2, 0)
    clock[0] = 60.0
    assert refusals.count_bad_tokens("0") == 0
