"""At most one leader at any time, and one in the end: random faults, delays and restarts."""

import asyncio
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maesh_core.controller.cluster.leader_election import LONGEST_LEASE_S

from .lease_world import HOSTILE, TAKEN_S, WALL_S, world_of

NAMES = "abcd"


class Chaos:
    """Lines that delay and lose, candidates that come, go, freeze and fall ill, and records of strangers."""

    def __init__(self, world, chance):
        self.world = world
        self.chance = chance
        self._fresh = count()

    def line(self, method):
        lost = self.chance.choice(("", "", "", "request", "answer"))
        delays = (0.0, 0.0, 0.01, 0.3, 1.0, 2.4, 2.9, 6.0, 11.0)
        return self.chance.choice(delays), self.chance.choice(delays), lost

    def start(self):
        name = f"{self.chance.choice(NAMES)}{next(self._fresh)}"
        offset_s = self.chance.choice((0.0, -3600.0, 86400.0))
        wall_s = self.chance.choice((0.0, WALL_S, WALL_S + 3600))
        candidate = self.world.start(name, offset_s=offset_s, wall_s=wall_s, chance=self.chance.random)
        candidate.line = self.line

    async def step(self):
        candidates = list(self.world.candidates.items())
        action = self.chance.choice(("line", "line", "cut", "mend", "fit", "unfit", "stop", "start", "forge", "pass"))
        if action == "start" and len(candidates) < len(NAMES):
            self.start()
        elif action == "forge":
            self.world.write(
                self.chance.choice(
                    [
                        HOSTILE[name]
                        for name in HOSTILE
                        if HOSTILE[name] is None or HOSTILE[name].get("holderIdentity") != "a"
                    ]
                )
            )
        elif candidates:
            name, candidate = self.chance.choice(candidates)
            if action in ("cut", "mend"):
                getattr(candidate, action)()
            elif action in ("fit", "unfit"):
                candidate.is_fit = action == "fit"
            elif action == "line":
                candidate.line = self.line
            elif action == "stop":
                await candidate.stop()
                assert not candidate.election.is_leader
                del self.world.candidates[name]
        await self.world.pass_time(self.chance.choice((0.0, 0.1, 1.0, 3.0, 9.9, 10.1, 20.0)))

    async def calm_down(self):
        """In the end everything is well again: one leads, and goes on."""
        if not self.world.candidates:
            self.start()
        for candidate in self.world.candidates.values():
            candidate.mend()
            candidate.is_fit = True
        await self.world.pass_time(LONGEST_LEASE_S + 2 * TAKEN_S)
        (leader,) = self.world.list_leaders()
        await self.world.pass_time(60)
        assert self.world.list_leaders() == [leader]
        assert self.world.leaders[-1] == leader


async def live_through(chance, length):
    async with world_of() as world:
        chaos = Chaos(world, chance)
        for _ in range(2):
            chaos.start()
        for _ in range(length):
            await chaos.step()
        await chaos.calm_down()


@settings(max_examples=60)
@given(st.randoms(use_true_random=False), st.integers(1, 25))
@pytest.mark.slow
def test_random_faults_never_cause_two_leaders_and_end_with_one(chance, length):
    asyncio.run(live_through(chance, length))


SIXTEENTHS = st.integers(0, 48).map(lambda number: number / 16)


@settings(max_examples=150)
@given(st.lists(SIXTEENTHS, min_size=8, max_size=8), st.sampled_from([0.0, 0.3, 0.999]), st.sampled_from([0.0, 0.7]))
@pytest.mark.slow
def test_a_leader_that_vanishes_never_overlaps_with_the_next(delays, chance, other_chance):
    begins, lasts, *lines = delays

    async def live():
        async with world_of() as world:
            for name, draw, (there, back) in (("a", chance, lines[:2]), ("b", other_chance, lines[2:4])):
                candidate = world.start(name, chance=lambda draw=draw: draw)
                candidate.line = lambda method, there=there, back=back: (there, back, "")
                await world.pass_time(begins)
            await world.pass_time(10 + lasts)
            (world.candidates[world.leaders[-1]] if world.leaders else candidate).cut()
            for each in world.candidates.values():
                if each.line("GET")[2] == "":
                    each.line = lambda method: (lines[4] / 16, lines[5] / 16, "")
            await world.pass_time(3 * TAKEN_S)
            assert world.list_leaders()

    asyncio.run(live())
