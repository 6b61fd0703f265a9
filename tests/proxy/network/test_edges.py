"""Raw sockets on an epoll within the loop: told once of each change, forgotten for good, others' turns first."""

import asyncio
import socket
from typing import Any

import pytest
import uvloop

from maesh_core.proxy.network.edges import (
    FEW_EVENTS,
    GONE,
    MISSES_LIMIT,
    POLLS_IN_A_TURN,
    PROBE_TURNS,
    EdgePoller,
)


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request):
    """Run a coroutine function, with a poller, on either loop."""

    def run_in_loop(act):
        async def main():
            poller = EdgePoller(asyncio.get_running_loop())
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            try:
                return await act(poller, ours, theirs)
            finally:
                poller.close()
                ours.close()
                theirs.close()

        with asyncio.Runner(loop_factory=request.param) as runner:
            return runner.run(main())

    return run_in_loop


async def settle():
    for _ in range(10):
        await asyncio.sleep(0.002)


async def until(condition):
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - sockets take their time
            await asyncio.sleep(0)


def test_a_change_is_reported_once(run):
    async def act(poller, ours, theirs):
        seen = []
        poller.watch(ours.fileno(), seen.append)
        await until(lambda: seen)
        await settle()
        assert len(seen) == 1  # it can be written to
        theirs.send(b"x")
        await until(lambda: len(seen) > 1)
        await settle()
        assert len(seen) == 2  # nobody reads, and nobody is told again
        theirs.close()
        await until(lambda: len(seen) > 2)
        await settle()
        assert len(seen) == 3
        assert seen[-1] & GONE

    run(act)


def test_events_of_forgotten_descriptors_are_not_reported(run):
    async def act(poller, ours, theirs):
        seen = []
        poller.watch(ours.fileno(), seen.append)
        poller.forget(ours.fileno())
        poller.forget(ours.fileno())
        theirs.send(b"x")
        await settle()
        assert seen == []
        assert repr(poller) == "<EdgePoller 0 descriptors>"

    run(act)


def test_work_that_is_put_off_is_done_in_a_later_round_each_time(run):
    async def act(poller, ours, theirs):
        rounds = []

        def work():
            rounds.append(len(rounds))
            if len(rounds) < 3:
                poller.put_off(work)

        poller.put_off(work)
        assert rounds == []
        await settle()
        assert rounds == [0, 1, 2]

    run(act)


def test_trouble_with_one_costs_no_other_its_turn(run, caplog):
    async def act(poller, ours, theirs):
        seen, rounds = [], []

        def fail(*_):
            raise RuntimeError

        theirs.setblocking(False)
        poller.watch(ours.fileno(), fail)
        poller.watch(theirs.fileno(), seen.append)
        poller.put_off(fail)
        poller.put_off(lambda: rounds.append(1))
        await until(lambda: seen and rounds and len(caplog.records) > 1)
        await settle()
        assert (len(seen), rounds) == (1, [1])
        assert len(caplog.records) == 2

    run(act)


def test_an_event_of_a_descriptor_that_is_another_one_by_now_is_told_to_nobody(run):
    async def act(poller, ours, theirs):
        told: list[Any] = []
        first, first_end = socket.socketpair()
        second, second_end = socket.socketpair()

        def on_first(events):
            told.append("first")
            descriptor = second.fileno()
            poller.forget(descriptor)
            second.close()
            fresh, fresh_end = socket.socketpair()
            assert descriptor in (fresh.fileno(), fresh_end.fileno())
            poller.watch(descriptor, lambda events: told.append(events))
            told.append((fresh, fresh_end))

        poller.watch(first.fileno(), on_first)
        poller.watch(second.fileno(), lambda events: told.append("second"))
        first_end.send(b"x")
        second_end.close()
        await until(lambda: "first" in told)
        await settle()
        for sock in (first, first_end, *told[1]):
            sock.close()
        return told

    told = run(act)
    assert "second" not in told
    assert all(not events & GONE for events in told if isinstance(events, int))


def test_a_socket_that_is_closed_is_told_of_no_more_nor_the_next_one_with_its_number(run):
    async def act(poller, ours, theirs):
        told: list[Any] = []
        first, first_end = socket.socketpair()
        second, second_end = socket.socketpair()
        descriptor = second.fileno()

        def on_first(events):
            poller.close_socket(second)
            fresh.extend(socket.socketpair())
            poller.watch(descriptor, told.append)

        fresh = []
        poller.watch(first.fileno(), on_first)
        poller.watch(descriptor, lambda events: told.append("second"))
        second_end.send(b"x")
        await until(lambda: fresh)
        await settle()
        assert second.fileno() == -1
        assert descriptor in [sock.fileno() for sock in fresh]
        assert repr(poller) == "<EdgePoller 2 descriptors>"
        poller.close_socket(second)
        for sock in (first, first_end, second_end, *fresh):
            poller.close_socket(sock)
        assert repr(poller) == "<EdgePoller 0 descriptors>"
        return told

    told = run(act)
    assert "second" not in told
    assert all(not events & GONE for events in told)


def test_what_a_few_events_led_to_is_served_in_the_same_round_of_the_loop_but_not_for_ever(run):
    async def act(poller, ours, theirs):
        rounds, served = [0], []
        theirs.setblocking(False)
        loop = asyncio.get_running_loop()

        def count_rounds():
            rounds[0] += 1
            loop.call_soon(count_rounds)

        def pass_on(sock):
            def on_event(events):
                if len(served) < 10 * POLLS_IN_A_TURN:
                    served.append(rounds[0])
                    sock.send(b"x")

            return on_event

        poller.watch(ours.fileno(), pass_on(ours))
        poller.watch(theirs.fileno(), pass_on(theirs))
        count_rounds()
        await settle()
        assert len(served) == 10 * POLLS_IN_A_TURN
        return served

    served = run(act)
    most = max(served.count(number) for number in served)
    assert 2 < most <= 2 * POLLS_IN_A_TURN


def test_further_polls_that_find_nothing_are_left_out_until_they_find_something_again(run):
    async def act(poller, ours, theirs):
        rounds, served = [0], []
        theirs.setblocking(False)
        loop = asyncio.get_running_loop()
        is_passing_on = False

        def count_rounds():
            rounds[0] += 1
            loop.call_soon(count_rounds)

        def pass_on(sock):
            def on_event(events):
                served.append(rounds[0])
                if is_passing_on and len(served) < 4 * PROBE_TURNS:
                    sock.send(b"x")

            return on_event

        poller.watch(ours.fileno(), pass_on(ours))
        poller.watch(theirs.fileno(), pass_on(theirs))
        await settle()
        served.clear()
        for number in range(MISSES_LIMIT + 1):  # events that lead to nothing
            ours.send(b"x")
            await until(lambda number=number: len(served) > number)
        is_passing_on = True
        served.clear()
        count_rounds()
        ours.send(b"x")
        await until(lambda: len(served) >= 4 * PROBE_TURNS)
        return served

    served = run(act)
    assert len(set(served[:3])) == 3
    assert max(served.count(number) for number in served) > 2


def test_after_many_events_others_have_their_turn_before_what_these_led_to(run):
    async def act(poller, ours, theirs):
        pairs = [socket.socketpair() for _ in range(FEW_EVENTS + 1)]
        order = []

        def pass_on(sock):
            def on_event(events):
                if not order:
                    asyncio.get_running_loop().call_soon(order.append, "other")
                if order.count(sock) < 2:
                    order.append(sock)
                    sock.send(b"x")

            return on_event

        for one, other in pairs:
            poller.watch(one.fileno(), pass_on(other))
        await until(lambda: len(order) > 2 * len(pairs))
        await settle()
        for sock in (sock for pair in pairs for sock in pair):
            poller.close_socket(sock)
        return order

    order = run(act)
    assert len(order) == 2 * (FEW_EVENTS + 1) + 1
    assert order.index("other") == FEW_EVENTS + 1
