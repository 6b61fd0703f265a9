"""A loop that is late, what it waits for, and who is not to blame."""

import asyncio
import logging
import sys
import threading
import types

import pytest

from maesh_core.model.metrics import Histogram
from maesh_core.proxy.worker.loop_watch import (
    BEAT_S,
    CALL_LIMIT,
    CONFIRM_S,
    LAG_BOUNDS_S,
    LATE_S,
    LoopWatch,
    describe_call,
    find_call,
)
from maesh_core.proxy.workers.counters import add_families

THREAD = threading.get_ident()
RUN = """
def run(call, *arguments):
    return call(*arguments)
"""
GREETING = """
import sys

class Greeting:
    def on_request(self, exchange):
        return sys._getframe()

class Louder(Greeting):
    pass

def build(settings, service):
    return sys._getframe()

async def wait(exchange):
    return sys._getframe()
"""


def load(name, source):
    """Make a module of a name, whose frames are as those of a real one."""
    module = types.ModuleType(name)
    exec(compile(source, f"/site/{name}.py", "exec"), module.__dict__)
    return module


LOOP, CORE, OTHER = load("asyncio.runners", RUN), load("maesh_core.proxy.chained", RUN), load("pytest_like", RUN)
GREET = load("greet.proxy", GREETING)


class Exchange:
    __module__ = "maesh_core.proxy.http.exchanges.middleware_run"
    service = "test/app:80"


class Branch(Exchange):
    __module__ = "maesh_core.proxy.tcp.relay"
    service = "test/db:1/split canary"


class Loop:
    """A loop's time and stack, both set by the test."""

    def __init__(self):
        self.now, self.frame = 1000.0, None
        self.watch = LoopWatch(None, clock=lambda: self.now, frames=lambda: {THREAD: self.frame})
        self.watch._due_s = self.now + BEAT_S

    def pass_time(self, seconds):
        self.now += seconds

    def read(self):
        lag, calls = self.watch.collect_metrics()
        return lag.samples[0][1], dict(calls.samples)


@pytest.fixture
def loop():
    return Loop()


def stop_in(call, *arguments):
    """Give the frame of a call that the mesh makes in the loop."""
    return OTHER.run(LOOP.run, CORE.run, call, *arguments)


def test_a_beat_measures_how_late_the_loop_is(loop):
    for late in (0.0, 0.003, 0.2, 9.0):
        loop.pass_time(BEAT_S + late)
        loop.watch.beat()
    histogram, calls = loop.read()
    assert histogram.bounds == LAG_BOUNDS_S
    assert [sum(histogram.counts[:1]), sum(histogram.counts), histogram.counts[-1]] == [2, 4, 1]
    assert histogram.sum == pytest.approx(9.203)
    assert calls == {}


def test_lags_and_calls_of_several_workers_are_added_up(loop):
    other = Loop()
    for each in (loop, other):
        each.pass_time(BEAT_S + 1.0)
        each.watch._count(describe_call(stop_in(GREET.Greeting().on_request, Exchange())), 1.0)
        each.watch.beat()
    lag, calls = add_families([*loop.watch.collect_metrics(), *other.watch.collect_metrics()])
    ((_, histogram),) = lag.samples
    assert isinstance(histogram, Histogram)
    assert histogram.sum == pytest.approx(2.0)
    assert calls.samples == [(("greet.proxy.Greeting.on_request", "test/app:80"), 2)]


def test_a_call_that_is_seen_twice_while_the_loop_is_late_is_told_once_and_counted_each_time(loop, caplog):
    for _ in range(3):
        loop.frame = stop_in(GREET.Greeting().on_request, Exchange())
        loop.pass_time(BEAT_S + LATE_S)
        assert loop.watch.check() == CONFIRM_S
        loop.pass_time(CONFIRM_S)
        for _ in range(4):  # however long it takes, it is one call
            assert loop.watch.check() == BEAT_S
        loop.watch.beat()
    assert loop.read()[1] == {("greet.proxy.Greeting.on_request", "test/app:80"): 3}
    (record,) = caplog.records
    text = record.getMessage()
    assert text.startswith(
        "greet.proxy.Greeting.on_request blocks the event loop (service test/app:80, /site/greet.proxy"
    )
    assert "for 0.12 s" in text


def test_a_loop_that_is_in_time_is_not_looked_into(loop):
    def fail():
        raise AssertionError

    loop.watch = LoopWatch(None, clock=lambda: loop.now, frames=fail)
    loop.pass_time(LATE_S / 2)
    assert loop.watch.check() == BEAT_S


def test_one_of_many_short_calls_is_not_reported(loop, caplog):
    loop.pass_time(BEAT_S + LATE_S)
    for _ in range(5):
        loop.frame = stop_in(GREET.Greeting().on_request, Exchange())
        assert loop.watch.check() == CONFIRM_S
        loop.pass_time(CONFIRM_S)
    loop.frame = None
    assert loop.watch.check() == BEAT_S
    assert (loop.read()[1], caplog.records) == ({}, [])


def test_the_same_frame_after_a_beat_has_not_been_there_all_the_time(loop):
    """A coroutine's frame is the same whenever it goes on."""
    loop.frame = stop_in(GREET.Greeting().on_request, Exchange())
    loop.pass_time(BEAT_S + LATE_S)
    assert loop.watch.check() == CONFIRM_S
    loop.watch.beat()
    loop.pass_time(BEAT_S + LATE_S)
    assert loop.watch.check() == CONFIRM_S
    assert loop.read()[1] == {}


def test_a_loop_that_is_late_without_a_call_has_nobody_to_blame(loop):
    """The machine is busy, or the mesh itself is."""
    loop.pass_time(5.0)
    for frame in (None, LOOP.run(sys._getframe), LOOP.run(CORE.run, sys._getframe)):
        loop.frame = frame
        assert loop.watch.check() == BEAT_S
    assert loop.read()[1] == {}


def test_the_outermost_call_of_other_code_in_the_loop_is_found():
    inner = stop_in(GREET.Greeting().on_request, Exchange())
    assert find_call(inner) is inner
    deeper = stop_in(OTHER.run, LOOP.run, GREET.build, 1, "shop/cart")
    assert find_call(deeper).f_code.co_name == "run"
    assert find_call(deeper).f_globals["__name__"] == "pytest_like"
    assert find_call(OTHER.run(sys._getframe)) is None


@pytest.mark.parametrize(
    ("call", "arguments", "name", "service"),
    [
        (GREET.Greeting().on_request, (Exchange(),), "greet.proxy.Greeting.on_request", "test/app:80"),
        (GREET.Greeting().on_request, (Branch(),), "greet.proxy.Greeting.on_request", "test/db:1"),
        (GREET.Louder().on_request, (object(),), "greet.proxy.Louder.on_request", ""),
        (
            GREET.Greeting().on_request,
            (types.SimpleNamespace(service="its own"),),
            "greet.proxy.Greeting.on_request",
            "",
        ),
        (GREET.build, (1, "shop/cart"), "greet.proxy.build", "shop/cart"),
        (GREET.build, (1, 2), "greet.proxy.build", ""),
    ],
)
def test_a_call_is_named_with_its_class_and_the_service_it_was_made_for(call, arguments, name, service):
    found = describe_call(stop_in(call, *arguments))
    assert (found.name, found.service) == (name, service)
    assert found.place.startswith("/site/greet.proxy.py line ")


def test_a_coroutine_is_named_as_well():
    coroutine = GREET.wait(Exchange())
    with pytest.raises(StopIteration) as stopped:
        LOOP.run(coroutine.send, None)
    assert describe_call(stopped.value.value).name == "greet.proxy.wait"


def test_calls_beyond_the_limit_are_counted_together(loop):
    for number in range(CALL_LIMIT + 5):
        loop.watch._count(describe_call(stop_in(GREET.build, 1, f"shop/s{number}")), 1.0)
    calls = loop.read()[1]
    assert len(calls) == CALL_LIMIT + 1
    assert calls["other", ""] == 5


def test_the_watch_goes_on_when_it_cannot_look(caplog):
    has_failed = threading.Event()
    looks = []

    def fail():
        looks.append(1)
        if len(looks) == 3:
            has_failed.set()
        raise RuntimeError("no frames here")

    async def run():
        loop = asyncio.get_running_loop()
        watch = LoopWatch(loop, frames=fail)
        watch.start()
        watch._due_s = -1e9  # ever so late
        watch._handle.cancel()
        await asyncio.to_thread(has_failed.wait, 30)
        watch.close()
        assert not watch._thread.is_alive()

    asyncio.run(run())
    assert [record.getMessage() for record in caplog.records] == ["cannot watch the event loop"]


class Blocking:
    """A middleware that gives the loop back when the log has named it."""

    def __init__(self):
        self.is_named = threading.Event()

    def on_request(self, exchange):
        assert self.is_named.wait(60)


class BlockingLater(Blocking):
    """The same, in a coroutine."""

    async def on_request(self, exchange):
        super().on_request(exchange)


class Listening(logging.Handler):
    """Tells a blocking middleware when a line of the log names it."""

    def __init__(self, blocking):
        super().__init__()
        self.blocking = blocking

    def emit(self, record):
        if f"{type(self.blocking).__name__}.on_request blocks" in record.getMessage():
            self.blocking.is_named.set()


@pytest.mark.parametrize("blocking", [Blocking(), BlockingLater()])
def test_a_middleware_that_blocks_a_real_loop_is_named_while_it_does(blocking):
    async def run():
        loop, has_beaten = asyncio.get_running_loop(), asyncio.Event()
        watch = LoopWatch(loop)
        watch.start()
        try:
            if isinstance(blocking, BlockingLater):
                await loop.create_task(blocking.on_request(Exchange()))
            else:
                loop.call_soon(CORE.run, blocking.on_request, Exchange())
            loop.call_later(2 * BEAT_S, has_beaten.set)
            await has_beaten.wait()
        finally:
            watch.close()
        assert not watch._thread.is_alive()
        return watch.collect_metrics()

    handler = Listening(blocking)
    logging.getLogger().addHandler(handler)
    try:
        lag, calls = asyncio.run(run())
    finally:
        logging.getLogger().removeHandler(handler)
    assert blocking.is_named.is_set()
    assert lag.samples[0][1].sum >= LATE_S
    (((name, service), count),) = calls.samples
    assert name.endswith(f"{type(blocking).__name__}.on_request")
    assert (service, count) == ("test/app:80", 1)
