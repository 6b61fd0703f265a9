"""A rate limit that waits, by a clock of the test."""

from maesh_core.process.allowance import Allowance


class Time:
    def __init__(self):
        self.now = 0.0
        self.paused = []
        self.allowance = Allowance(burst=2, per_second=4.0, clock=lambda: self.now, pause=self.pause)

    async def pause(self, seconds):
        self.paused.append(seconds)
        self.now += seconds


async def test_a_burst_does_not_wait_and_what_follows_waits_for_the_rate():
    time = Time()
    for _ in range(5):
        await time.allowance.wait()
    assert time.paused == [0.25, 0.25, 0.25]


async def test_it_fills_up_to_the_burst_and_no_further():
    time = Time()
    for _ in range(2):
        await time.allowance.wait()
    time.now += 1000
    for _ in range(3):
        await time.allowance.wait()
    assert time.paused == [0.25]
    assert repr(time.allowance) == "<Allowance -1 of 2>"
