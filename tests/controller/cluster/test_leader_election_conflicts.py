"""Candidates whose writes conflict, or whose requests and answers are lost or late."""

import pytest

from maesh_core.controller.cluster.leader_election import RETRY_S

from .lease_world import start_second, world_of


async def test_the_second_of_two_writes_does_not_acquire_the_lease():
    async with world_of() as world:
        for name, there_s in (("a", 0.1), ("b", 0.2)):
            world.start(name).line = lambda method, there_s=there_s: (there_s, 0.0, "")
        await world.pass_time(30)
        assert world.leaders == ["a"]
        assert world.candidates["b"].changes == []


async def test_the_second_of_two_takeovers_fails():
    async with world_of("a") as world:
        await start_second(world, "b")
        await start_second(world, "c")
        world.candidates["a"].cut()
        for name, there_s in (("b", 1.0), ("c", 0.9)):
            world.candidates[name].line = lambda method, there_s=there_s: (there_s, 0.0, "")
        await world.pass_time(40)
        assert len(world.leaders) == 2


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_a_candidate_keeps_a_lease_that_it_acquired_while_the_answer_was_lost(method):
    async with world_of() as world:
        if method == "PUT":
            world.write({"holderIdentity": "", "leaseDurationSeconds": 1})
        candidate = world.start("a")
        candidate.line = lambda asked: (0.0, 0.0, "answer" if asked == method else "")
        await world.pass_time(0)
        assert world.lease["spec"]["holderIdentity"] == "a"
        assert world.list_leaders() == []
        candidate.mend()
        await world.pass_until(lambda: world.list_leaders() == ["a"], RETRY_S * 1.2)
        assert world.lease["spec"]["leaseTransitions"] == (1 if method == "PUT" else 0)


async def test_a_leader_whose_answers_are_lost_leads_until_its_last_success_expires():
    async with world_of("a") as world:
        leader = world.candidates["a"]
        await start_second(world)
        leader.line = lambda method: (0.0, 0.0, "answer" if method == "PUT" else "")
        until = world.now + leader.election.remaining_s
        await world.pass_time(60)
        assert leader.changes[-1][0] == pytest.approx(until)
        assert world.leaders == ["a"]  # the record is renewed all the time: nobody can know better
        leader.mend()
        await world.pass_until(lambda: world.list_leaders() == ["a"], RETRY_S * 1.2)


async def test_a_late_write_does_not_cause_two_leaders():
    async with world_of("a") as world:
        await start_second(world)
        leader = world.candidates["a"]
        leader.line = lambda method: (0.0, 0.0, "") if method == "GET" else (12.0, 0.0, "")
        await world.pass_time(3)
        leader.cut()
        await world.pass_time(60)
        assert world.leaders == ["a", "b"]


async def test_a_conflict_at_a_renewal_does_not_end_the_lead():
    async with world_of("a") as world:
        leader = world.candidates["a"]

        def touch(method):
            if method == "PUT":
                world.write(world.lease["spec"])
            return (0.0, 0.0, "")

        leader.line = touch
        await world.pass_time(RETRY_S * 2.5)
        assert world.list_leaders() == ["a"]
        leader.mend()
        await world.pass_time(30)
        assert leader.changes == [(0.0, True)]
