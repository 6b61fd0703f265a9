"""The coarse clock, its sweeps, and that it stops."""

import asyncio
from typing import cast

from maesh_core.proxy.network.clock import TICK_S, Clock


class FakeLoop:
    def __init__(self):
        self.scheduled = []

    def time(self):
        return 5.0

    def call_later(self, delay_s, callback):
        handle = asyncio.TimerHandle(0.0, callback, (), cast("asyncio.AbstractEventLoop", self))
        self.scheduled.append((delay_s, handle))
        return handle

    def get_debug(self):
        return False

    def _timer_handle_cancelled(self, handle):
        pass


def test_now_is_the_time_of_the_last_tick():
    now = [1.0]
    clock = Clock(cast("asyncio.AbstractEventLoop", FakeLoop()), time=lambda: now[0])
    now[0] = 2.0
    assert clock.now == 1.0
    clock.tick()
    assert clock.now == 2.0


def test_the_time_is_the_loops_unless_another_is_given():
    assert Clock(cast("asyncio.AbstractEventLoop", FakeLoop())).now == 5.0


def test_every_sweep_runs_at_every_tick_and_the_next_tick_is_planned_first():
    loop, swept = FakeLoop(), []
    clock = Clock(cast("asyncio.AbstractEventLoop", loop))
    assert not loop.scheduled
    clock.add_sweep(lambda now: swept.append(("a", now)))
    clock.add_sweep(lambda now: swept.append(("b", len(loop.scheduled))))
    ((delay_s, handle),) = loop.scheduled
    assert delay_s == TICK_S
    handle._run()
    assert swept == [("a", 5.0), ("b", 2)]


def test_a_closed_clock_ticks_no_more_even_when_a_sweep_closed_it():
    loop = FakeLoop()
    clock = Clock(cast("asyncio.AbstractEventLoop", loop))
    clock.add_sweep(lambda now: clock.close())
    loop.scheduled[0][1]._run()
    assert [handle.cancelled() for _, handle in loop.scheduled] == [False, True]
    clock.close()
