"""How long what a client still sends is thrown away."""

from maesh_core.proxy.http.clients.linger import LINGER_LIMIT_S, LINGER_S, Linger


def test_a_silent_client_is_waited_for_once():
    assert Linger(100.0).deadline == 100.0 + LINGER_S


def test_each_byte_prolongs_the_wait_up_to_its_limit():
    linger, now = Linger(100.0), 100.0
    deadlines = []
    while now < linger.deadline:
        deadlines.append(linger.extend(now))
        now += LINGER_S - 0.25
    assert deadlines == sorted(deadlines)
    assert deadlines[-1] == 100.0 + LINGER_LIMIT_S
