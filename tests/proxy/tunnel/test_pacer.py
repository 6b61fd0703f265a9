"""Handshakes use a share of the loop's time, in a fake time."""

import asyncio

from maesh_core.proxy.tunnel.limits import HANDSHAKE_CREDIT_S, HANDSHAKE_SHARE
from maesh_core.proxy.tunnel.pacer import HandshakePacer


class Time:
    """A time that steps move."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


async def test_handshakes_get_their_share_of_the_time():
    time = Time()
    pacer = HandshakePacer(asyncio.get_running_loop(), time, time)
    done = []

    def step():
        time.now += 0.002
        done.append(time.now)

    for _ in range(200):
        pacer.add(step)
    while len(done) < 200:
        pacer.work()
        time.now += 0.001  # other work
    pacer.close()
    assert 200 * 0.002 / (time.now - 100.0) <= HANDSHAKE_SHARE + 0.01


async def test_a_step_costs_only_the_processors_time():
    time, cost = Time(), Time()
    pacer = HandshakePacer(asyncio.get_running_loop(), time, cost)
    done = []

    def step():
        time.now += 1.0  # the process had to wait
        cost.now += 0.001
        done.append(1)

    for _ in range(8):
        pacer.add(step)
    pacer.work()
    pacer.close()
    assert len(done) == 8
    assert HANDSHAKE_CREDIT_S > 8 * 0.001


async def test_unused_time_is_carried_over_up_to_a_limit():
    time = Time()
    pacer = HandshakePacer(asyncio.get_running_loop(), time, time)
    time.now += 1000
    done = []

    def step():
        time.now += 0.001
        done.append(1)

    for _ in range(100):
        pacer.add(step)
    pacer.work()
    pacer.close()
    assert len(done) <= HANDSHAKE_CREDIT_S / 0.001 + 1


async def test_a_step_that_fails_does_not_stop_the_others():
    pacer = HandshakePacer(asyncio.get_running_loop())
    done = []

    def fail():
        raise ZeroDivisionError

    pacer.add(fail)
    pacer.add(lambda: done.append(1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    pacer.close()
    assert done == [1]
