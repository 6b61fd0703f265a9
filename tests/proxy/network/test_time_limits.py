"""Queues of time limits: what is late expires in order, what ends in time does not, and one timer serves a queue."""

import asyncio
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.proxy.network.time_limits import EARLY_S, QUEUES, TimeLimits


class World:
    """A loop whose time a test moves, the limits in it, and what has expired, with the time."""

    def __init__(self):
        self.now = 100.0
        self.timers = []
        self.expired = []
        self.errors = []
        self.limits = TimeLimits(self.expire, lambda: self.now)

    def expire(self, waiting):
        self.expired.append((waiting, self.now))
        if waiting == "broken":
            raise ValueError(waiting)

    def call_later(self, delay_s, callback):
        self.timers.append(
            asyncio.TimerHandle(self.now + delay_s, callback, (), cast("asyncio.AbstractEventLoop", self))
        )
        return self.timers[-1]

    def call_exception_handler(self, context):
        self.errors.append(context["exception"])

    def get_debug(self):
        return False

    def _timer_handle_cancelled(self, handle):
        self.timers.remove(handle)

    def pass_time(self, seconds):
        end = self.now + seconds
        while due := [timer for timer in self.timers if timer.when() <= end]:
            first = min(due, key=asyncio.TimerHandle.when)
            self.timers.remove(first)
            self.now = max(self.now, first.when())
            first._run()
        self.now = end


@pytest.fixture
def build_world(monkeypatch):
    def build():
        world = World()
        monkeypatch.setattr(asyncio, "get_running_loop", lambda: world)
        return world

    return build


def test_what_is_late_expires_in_the_order_in_which_it_began(build_world):
    world = build_world()
    for waiting in "abc":
        world.limits.begin(waiting, 5.0, world.now)
        world.pass_time(1)
    world.limits.begin("short", 1.0, world.now)
    world.pass_time(10)
    assert world.expired == [("short", 104.0), ("a", 105.0), ("b", 106.0), ("c", 107.0)]
    assert world.timers == []


def test_what_ends_in_time_never_expires_and_the_queue_needs_one_timer(build_world):
    world = build_world()
    for number in range(100):
        limit = world.limits.begin(number, 5.0, world.now)
        queue = limit.queue
        limit.end()
        limit.end()
        assert len(world.timers) == 1
    world.limits.begin("late", 5.0, world.now)
    world.pass_time(20)
    assert world.expired == [("late", 105.0)]
    assert (world.timers, queue.is_idle) == ([], True)


def test_a_limit_of_its_own_has_a_timer_that_ends_with_it(build_world):
    world = build_world()
    limit = world.limits.begin_alone("a", 5.0, world.now)
    assert len(world.timers) == 1
    limit.end()
    assert world.timers == []
    world.limits.begin_alone("b", 5.0, world.now)
    world.pass_time(6)
    assert world.expired == [("b", 105.0)]


def test_what_begins_while_others_expire_waits_for_its_own_end(build_world):
    world = build_world()
    expire = world.expire

    def begin_again(waiting):
        expire(waiting)
        world.limits.begin(waiting, 5.0, world.now)

    world.limits = TimeLimits(begin_again, lambda: world.now)
    world.limits.begin("a", 5.0, world.now)
    world.pass_time(11)
    assert world.expired == [("a", 105.0), ("a", 110.0)]
    assert len(world.timers) == 1


def test_one_that_fails_does_not_keep_the_others_from_their_end(build_world):
    world = build_world()
    world.limits.begin("broken", 5.0, world.now)
    world.limits.begin("b", 5.0, world.now)
    world.pass_time(5)
    assert [waiting for waiting, _ in world.expired] == ["broken", "b"]
    assert [type(error) for error in world.errors] == [ValueError]


def test_queues_are_bounded_and_idle_ones_make_room(build_world):
    world = build_world()
    limits = [world.limits.begin("a", 5.0 + number, world.now) for number in range(QUEUES)]
    beyond = world.limits.begin("b", 1.0, world.now)
    beyond.end()
    assert len(world.timers) == QUEUES
    for limit in limits:
        limit.end()
    world.pass_time(1000)
    shared = world.limits.begin("b", 1.0, world.now)
    assert world.limits.begin("c", 1.0, world.now).queue is shared.queue
    assert len(world.timers) == 1


def test_a_timer_that_fires_too_early_waits_for_the_rest(build_world):
    world = build_world()
    world.limits.begin("a", 5.0, world.now + 2 * EARLY_S)  # as if the loop's time were behind
    world.limits.begin("b", 5.0, world.now + 3.5 * EARLY_S)
    world.pass_time(5)
    assert world.expired == []
    world.pass_time(1)
    assert world.expired == [("a", 105 + 2 * EARLY_S), ("b", 105 + 3.5 * EARLY_S)]


STEPS = st.lists(
    st.tuples(st.sampled_from(["begin", "alone", "end", "pass"]), st.integers(0, 9), st.sampled_from([1.0, 2.0, 4.0]))
)


@given(STEPS)
def test_what_expires_is_what_a_timer_for_each_would_end(steps):
    with pytest.MonkeyPatch.context() as patch:
        world = World()
        patch.setattr(asyncio, "get_running_loop", lambda: world)
        waiting, expected = {}, []
        for verb, name, seconds in steps:
            if verb == "pass":
                end = world.now + seconds
                late = sorted((due, each) for each, (due, _) in waiting.items() if due <= end)
                expected += [(each, due) for due, each in late]
                for _, each in late:
                    del waiting[each]
                world.pass_time(seconds)
            elif verb == "end":
                if name in waiting:
                    waiting.pop(name)[1].end()
            elif name not in waiting:
                begin = world.limits.begin if verb == "begin" else world.limits.begin_alone
                waiting[name] = (world.now + seconds, begin(name, seconds, world.now))
        assert sorted(world.expired) == sorted(expected)


def test_what_another_one_has_ended_at_its_own_end_never_expires(build_world):
    world, ended = build_world(), []
    limits_of = {}

    def expire(waiting):
        ended.append((waiting, world.now))
        if waiting == "a":
            limits_of["b"].end()
            limits_of["c"].end()
            limits.begin("c", 5.0, world.now)

    limits = TimeLimits(expire, lambda: world.now)
    for waiting in "abcd":
        limits_of[waiting] = limits.begin(waiting, 5.0, world.now)
    world.pass_time(20)
    assert ended == [("a", 105.0), ("d", 105.0), ("c", 110.0)]
    assert world.timers == []
